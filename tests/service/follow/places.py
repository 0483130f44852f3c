"""What the tests of sources share: places that events come from, and how a test reads them."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Producer
from redis import Redis

from models.live.event import Event
from models.live.keys import DEAD_KEY, EVENT_FIELD, IN_KEY
from service.errors import SourceUnavailableError
from service.follow.sources.kafka import KafkaSource
from service.follow.sources.redis_stream import RedisStreamSource
from service.follow.sources.source import Delivery, Source

QUICK = {"log_level": "0", "heartbeat.interval.ms": "200", "session.timeout.ms": "6000"}
"""Mock brokers may notice that a member left only by its silence."""


def event(number: int) -> Event:
    return Event(f"e{number}", f"u{number % 3}", f"i{number}", 1000 + number)


@dataclass
class Place:
    """Where a source's events come from.

    Attributes:
        send: adds an event, or bytes that are none.
        open: another worker.
        dead: raw message and reason of each dead letter.
    """

    send: Callable[[Event | bytes], None]
    open: Callable[[], Source]
    dead: Callable[[], list[tuple[bytes, str]]]
    opened: list[Source] = field(default_factory=list)

    def worker(self) -> Source:
        self.opened.append(self.open())
        return self.opened[-1]


def stream_place(client: Redis) -> Place:
    workers = iter(range(100))

    def dead() -> list[tuple[bytes, str]]:
        entries: Any = client.xrange(DEAD_KEY)
        return [(fields[b"e"], fields[b"reason"].decode()) for _, fields in entries]

    def send(sent: Event | bytes) -> None:
        raw = sent if isinstance(sent, bytes) else sent.to_bytes()
        client.xadd(IN_KEY, {EVENT_FIELD: raw})

    def opened() -> Source:
        return RedisStreamSource(client, f"w{next(workers)}", claim_idle_s=0.05, claim_every_s=0.05)

    return Place(send, opened, dead)


def kafka_place(servers: str, topic: str, stack: ExitStack, **more: str) -> Place:
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})

    def send(sent: Event | bytes) -> None:
        key = sent.user_id if isinstance(sent, Event) else "x"
        producer.produce(topic, sent if isinstance(sent, bytes) else as_message(sent), key=key)
        assert producer.flush(10) == 0

    def dead() -> list[tuple[bytes, str]]:
        options = {"bootstrap.servers": servers, "group.id": "reader", "log_level": 0}
        reader = Consumer({**options, "auto.offset.reset": "earliest"})
        reader.subscribe([f"{topic}.dead"])
        found: list[tuple[bytes, str]] = []
        while not found:
            for message in reader.consume(10, 1.0):
                headers: Any = message.headers()
                if message.error() is None:
                    found.append((message.value() or b"", dict(headers)["reason"].decode()))
        reader.close()
        return found

    def opened() -> Source:
        named = {name.replace("_", "."): value for name, value in more.items()}
        source = KafkaSource(servers, topic, {**QUICK, "group.id": topic, **named})
        stack.callback(source.close)
        return source

    return Place(send, opened, dead)


def as_message(sent: Event) -> bytes:
    names = {"user_id": sent.user_id, "item_id": sent.item_id, "event_id": sent.event_id}
    return json.dumps({**names, "ts_s": sent.ts_s}).encode()


def read(source: Source, number: int) -> list[Delivery]:
    """The next deliveries, until there are `number`; a group of Kafka needs some seconds to form."""
    found: list[Delivery] = []
    for _ in range(60):
        try:
            found += source.read(number - len(found), 0.5)
        except SourceUnavailableError:  # a topic that is not there yet
            continue
        if len(found) >= number:
            return found
    raise AssertionError(f"got {len(found)} deliveries, expected {number}")


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return sorted(delivery.event.event_id for delivery in deliveries if delivery.event)
