"""Events of a Kafka topic, by librdkafka. Needs the extra `kafka`.

A message is one event as JSON, as in the body of POST /v1/events: `user_id`, `item_id`, and perhaps `ts_s`, `kind`,
`fields`, `event_id`. Without `ts_s` the message's own time is taken, without `event_id` its place in the topic: a
message that is delivered again is the same event. Keep the events of a user in one partition (key: the user id), so
that workers do not fold one user at the same time; states are right in any order.
"""

import logging
from collections.abc import Mapping, Sequence

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE as NO_TIME
from confluent_kafka import (
    Consumer,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from models.contract.errors import shown
from models.contract.strict_json import read_json
from models.live.event import MAX_EVENT_BYTES, Event, EventError
from models.live.keys import GROUP
from service.errors import SourceUnavailableError
from service.follow.sources.source import Delivery

DEAD_SUFFIX = ".dead"
"""What comes behind the topic's name in the name of the topic of dead letters."""
TIMEOUT_S = 10.0
NAMES = {"user_id": "user", "item_id": "item", "ts_s": "ts", "event_id": "id"}
"""Names of the HTTP body -> names of the stored event; others are the same."""
log = logging.getLogger(__name__)


class KafkaSource:
    """A member of the consumer group of all workers. Offsets are committed after the fold, never before.

    Attributes:
        name: names the source in logs and metrics.
    """

    name = "kafka"

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
        self._next: dict[tuple[str, int], int] = {}  # partition -> offset of its next message
        self._open: dict[
            tuple[str, int], set[int]
        ] = {}  # partition -> offsets that are not acknowledged
        self._consumer.subscribe([topic], on_assign=self._assigned)

    def read(self, max_events: int, wait_s: float) -> Sequence[Delivery]:
        """The next messages of this member's partitions; raises as `Source.read` does."""
        try:
            messages = self._consumer.consume(max_events, wait_s)
        except KafkaException as error:
            raise SourceUnavailableError("kafka", str(error)) from error
        for message in messages:
            if (problem := message.error()) is not None:
                raise SourceUnavailableError("kafka", str(problem))
            self._note(message)
        return [_delivery(message) for message in messages]

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Commit the offset of the first message that is not done in each partition; raises as `Source.ack` does."""
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
        if not behind:
            return
        try:
            self._consumer.commit(offsets=behind, asynchronous=False)
        except KafkaException as error:
            # Above all: the partitions went to another member meanwhile, which reads the messages again.
            raise SourceUnavailableError("kafka", str(error)) from error

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Send a message to the topic of dead letters, and wait until it is there; raises as `Source.bury` does."""
        headers: list[tuple[str, str | bytes | None]] = [
            ("reason", reason.encode()),
            ("position", delivery.position.encode()),
        ]
        try:
            self._producer.produce(self._topic + DEAD_SUFFIX, delivery.raw, headers=headers)
            left = self._producer.flush(TIMEOUT_S)
        except (KafkaException, BufferError) as error:
            raise SourceUnavailableError("kafka", str(error)) from error
        if left:
            raise SourceUnavailableError("kafka", f"dead letters: no answer in {TIMEOUT_S:.0f} s")

    def waiting(self) -> int | None:
        """Messages behind the next one of each of this member's partitions; None if the broker does not answer."""
        try:
            total = 0
            for part in self._consumer.position(self._consumer.assignment()):
                low, high = self._consumer.get_watermark_offsets(part, TIMEOUT_S)
                total += max(0, high - max(part.offset, low, 0))
            return total
        except (KafkaException, TypeError):  # None in place of the watermarks: no answer
            return None

    def has_gap(self) -> bool:
        """Whether offsets were skipped, as after the topic dropped messages that nobody had read."""
        found, self._lost = self._lost, False
        return found

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
        self._producer.flush(TIMEOUT_S)

    def _assigned(self, _: Consumer, parts: list[TopicPartition]) -> None:
        for part in parts:
            self._next.pop((part.topic, part.partition), None)
            self._open.pop((part.topic, part.partition), None)
        log.info("partitions", extra={"partitions": [part.partition for part in parts]})

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
    if len(raw) > MAX_EVENT_BYTES:
        raise EventError(f"got {len(raw)} bytes, expected at most {MAX_EVENT_BYTES}")
    try:
        values = read_json(raw)
    except (ValueError, RecursionError) as error:
        raise EventError(f"got {shown(raw)}, expected JSON: {error}") from error
    if not isinstance(values, dict):
        raise EventError(f"got {shown(values)}, expected an object with user_id and item_id")
    named = {NAMES.get(name, name): value for name, value in values.items() if value is not None}
    kind, ms = message.timestamp()
    if "ts" not in named and kind != NO_TIME:
        named["ts"] = ms // 1000
    return Event.from_values({"id": position, **named})
