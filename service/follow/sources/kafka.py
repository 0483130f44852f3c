"""Events of a Kafka topic, by librdkafka. Needs the extra `kafka`.

A message is one event as JSON, as in the body of POST /v1/events: `user_id`, `item_id`, and perhaps `ts_s`, `kind`,
`fields`, `event_id`. Without `ts_s` the message's own time is taken, without `event_id` its place in the topic: a
message that is delivered again is the same event. Events are in no log before they are folded, so what the topic drops
unread is lost. Keep the events of a user in one partition (key: the user id), so
that workers do not fold one user at the same time; states are right in any order.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE as NO_TIME
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from models.contract.errors import shown
from models.contract.vocabulary import MAX_ID_LENGTH
from models.live.event import MAX_EVENT_BYTES, Event, EventError, parsed
from models.live.keys import GROUP
from service.errors import SourceUnavailableError
from service.follow.sources.source import Delivery

DEAD_SUFFIX = ".dead"
"""What comes behind the topic's name in the name of the topic of dead letters."""
TIMEOUT_S = 10.0
ASK_S = 2.0
"""How long questions about offsets wait for an answer: events wait as long."""
NAMES = {"user_id": "user", "item_id": "item", "ts_s": "ts", "event_id": "id"}
"""Names of the HTTP body -> names of the stored event; others are the same."""
log = logging.getLogger(__name__)


class KafkaSource:
    """A member of the consumer group of all workers. Offsets are committed after the fold, never before.

    Attributes:
        name: names the source in logs and metrics.
        counts_all: False: `waiting` counts the messages of this member's partitions.
    """

    name = "kafka"
    counts_all = False

    def __init__(self, servers: str, topic: str, options: Mapping[str, str] | None = None) -> None:
        """Join the group.

        Args:
            servers: addresses of brokers, `host:port,host:port`.
            topic: topic of the events.
            options: further settings of librdkafka, such as those of TLS and SASL.
        """
        common = {"bootstrap.servers": servers, **(options or {})}
        self._topic = topic
        self._consumer = Consumer(
            {
                "group.id": f"absorb-{GROUP}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.partition.eof": False,
                "isolation.level": "read_committed",
                **common,
            }
        )
        self._producer = Producer({"acks": "all", **common})
        self._lost = False
        self._is_assigned = False  # and a member may be assigned no partition
        self._is_new = True  # since the partitions were assigned, nothing was asked about them
        # By partition: the offset of its next message, and those that are not acknowledged.
        self._next: dict[tuple[str, int], int] = {}
        self._open: dict[tuple[str, int], set[int]] = {}
        self._consumer.subscribe(
            [topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def read(self, max_events: int, wait_s: float) -> Sequence[Delivery]:
        """The next messages of this member's partitions; raises as `Source.read` does."""
        try:
            messages = self._consumer.consume(max_events, wait_s)
        except KafkaException as error:
            raise SourceUnavailableError("kafka", str(error)) from error
        # An error among them says nothing of the others, which librdkafka does not hand out again.
        problems = [problem for message in messages if (problem := message.error()) is not None]
        found = [message for message in messages if message.error() is None]
        if problems and not found:
            raise SourceUnavailableError("kafka", str(problems[0]))
        for message in found:
            self._note(message)
        return [_delivery(message) for message in found]

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Commit the offset of the first message that is not done in each partition.

        A commit that fails is logged. The next one covers it, or the partitions went to another member meanwhile, such
        as after a fold of minutes: then the messages come again, and only a read joins the group again.
        """
        places = set()
        for delivery in deliveries:
            topic, partition, offset = delivery.position.rsplit("/", 2)
            places.add((topic, int(partition)))
            self._open.get((topic, int(partition)), set()).discard(int(offset))
        # Of a partition that went to another member meanwhile, nothing is known any more.
        behind = [
            TopicPartition(*place, min(self._open[place], default=self._next[place]))
            for place in places & self._next.keys()
        ]
        try:
            if behind:
                self._consumer.commit(offsets=behind, asynchronous=False)
        except KafkaException as error:
            log.warning("offsets are not committed", extra={"error": str(error)})

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Send a message to the topic of dead letters, and wait until it is there; raises as `Source.bury` does.

        Of a message longer than any event the beginning is sent: brokers limit what they take.
        """
        headers: list[tuple[str, str | bytes | None]] = [
            ("reason", reason.encode()),
            ("position", delivery.position.encode()),
            ("bytes", str(len(delivery.raw)).encode()),
        ]
        problems: list[str] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                problems.append(str(error))

        start = delivery.raw[:MAX_EVENT_BYTES]
        try:
            self._producer.produce(
                self._topic + DEAD_SUFFIX, start, headers=headers, on_delivery=delivered
            )
            if self._producer.flush(TIMEOUT_S):
                problems.append(f"no answer in {TIMEOUT_S:.0f} s")
        except (KafkaException, BufferError) as error:
            problems.append(str(error))
        if problems:
            raise SourceUnavailableError("kafka", f"dead letters: {problems[0]}")

    def waiting(self) -> int | None:
        """Messages behind the committed offsets of this member's partitions; None: no answer, or not joined."""
        try:
            left = [high - max(done, low) for done, low, high in self._bounds()]
        except KafkaException:
            return None
        return sum(left) if left or self._is_assigned else None

    def has_gap(self) -> bool:
        """Whether the topic dropped messages that no worker had read."""
        if self._is_new and self._consumer.assignment():
            try:
                self._lost |= any(0 <= done < low for done, low, _ in self._bounds())
                self._is_new = False
            except KafkaException as error:
                log.warning("offsets are not known", extra={"error": str(error)})
        found, self._lost = self._lost, False
        if found:
            log.warning("the topic dropped messages that no worker had read")
        return found

    def _bounds(self) -> Iterator[tuple[int, int, int]]:
        """Of each partition: its committed offset, below 0 if there is none, its first offset, and its end."""
        for part in self._consumer.committed(self._consumer.assignment(), timeout=ASK_S):
            bounds = self._consumer.get_watermark_offsets(part, timeout=ASK_S)
            if bounds is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            yield part.offset, *bounds

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
        self._producer.flush(TIMEOUT_S)

    def _assigned(self, _: Consumer, parts: list[TopicPartition]) -> None:
        self._is_new = self._is_assigned = True
        log.info("partitions", extra={"partitions": [part.partition for part in parts]})

    def _revoked(self, _: Consumer, parts: list[TopicPartition]) -> None:
        self._is_assigned = False
        for part in parts:
            self._next.pop((part.topic, part.partition), None)
            self._open.pop((part.topic, part.partition), None)

    def _note(self, message: Message) -> None:
        place, offset = (str(message.topic()), int(message.partition() or 0)), _offset(message)
        low, _ = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True) or (0, 0)
        expected = self._next.get(place)
        # Offsets are not dense (transactions, compaction): only what the topic no longer has may be lost.
        if expected is not None and expected < low:
            self._lost = True
        self._next[place] = offset + 1
        self._open.setdefault(place, set()).add(offset)


def _offset(message: Message) -> int:
    offset = message.offset()
    return -1 if offset is None else offset


def _delivery(message: Message) -> Delivery:
    position = f"{message.topic()}/{message.partition()}/{_offset(message)}"
    value = message.value()
    raw = value.encode() if isinstance(value, str) else value or b""
    try:
        return Delivery(position, raw, _event(raw, position, message))
    except EventError as error:
        return Delivery(position, raw, None, str(error))


def _event(raw: bytes, position: str, message: Message) -> Event:
    values = parsed(raw)
    if not isinstance(values, dict):
        raise EventError(f"got {shown(values)}, expected an object with user_id and item_id")
    named = {NAMES.get(name, name): value for name, value in values.items() if value is not None}
    for name in ("user", "item"):
        if type(named.get(name)) is int:  # as POST /v1/events takes them; bool is an int, and no id
            named[name] = str(named[name])
    kind, ms = message.timestamp()
    if "ts" not in named and kind != NO_TIME:
        named["ts"] = ms // 1000
    return Event.from_values({"id": _id_of(position), **named})


def _id_of(position: str) -> str:
    """An event id for a place in a topic, whose name may be longer than an id."""
    return (
        position
        if len(position) <= MAX_ID_LENGTH
        else hashlib.sha256(position.encode()).hexdigest()
    )
