"""Both sources keep one promise, on a real server and on librdkafka's mock brokers: at least once, until it is done."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from redis import Redis

from models.contract.embedded_cache import start_server, stop_server
from models.live.event import Event
from models.live.keys import DEAD_KEY, EVENT_FIELD, GROUP, IN_KEY
from service.errors import SourceUnavailableError
from service.follow.sources.kafka import KafkaSource
from service.follow.sources.redis_stream import RedisStreamSource
from service.follow.sources.source import Delivery, Source
from tests.service.follow.brokers import mock_cluster

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


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    yield f"unix://{start_server(folder)}"
    stop_server(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with mock_cluster() as servers:
        yield servers


@pytest.fixture
def client(server: str) -> Iterator[Redis]:
    with Redis.from_url(server) as client:
        client.flushall()
        yield client


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


def kafka_place(servers: str, topic: str, stack: ExitStack) -> Place:
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
        source = KafkaSource(servers, topic, {**QUICK, "group.id": topic})
        stack.callback(source.close)
        return source

    return Place(send, opened, dead)


def as_message(sent: Event) -> bytes:
    names = {"user_id": sent.user_id, "item_id": sent.item_id, "event_id": sent.event_id}
    return json.dumps({**names, "ts_s": sent.ts_s}).encode()


@pytest.fixture(params=["redis", "kafka"])
def place(request: pytest.FixtureRequest, client: Redis) -> Iterator[Place]:
    with ExitStack() as stack:
        if request.param == "redis":
            yield stream_place(client)
        else:
            topic = f"t{abs(hash(request.node.name))}"
            yield kafka_place(request.getfixturevalue("brokers"), topic, stack)


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


def test_events_come_once_acknowledged_and_no_more(place: Place):
    for number in range(5):
        place.send(event(number))
    first = place.worker()
    deliveries = read(first, 5)
    assert ids(deliveries) == [f"e{number}" for number in range(5)]
    assert all(
        event(int(found.event.item_id[1:])) == found.event for found in deliveries if found.event
    )
    first.ack(deliveries)
    assert first.waiting() == 0
    first.close()
    place.send(event(5))
    assert ids(read(place.worker(), 1)) == ["e5"]


def test_what_a_dead_worker_left_comes_to_another(place: Place):
    for number in range(4):
        place.send(event(number))
    dying = place.worker()
    deliveries = read(dying, 4)
    dying.ack([found for found in deliveries if found.event and found.event.user_id == "u0"])
    dying.close()
    other, again = place.worker(), set[str]()
    while not {"e1", "e2"} <= again:
        again |= set(ids(read(other, 1)))


def test_a_message_that_is_no_event_says_why_and_is_buried(place: Place):
    place.send(b'{"user_id": 5}')
    source = place.worker()
    delivery = read(source, 1)[0]
    assert delivery.event is None
    assert "event: got" in delivery.problem
    source.bury(delivery, delivery.problem)
    source.ack([delivery])
    assert place.dead() == [(b'{"user_id": 5}', delivery.problem)]


def test_reading_ends_when_nothing_comes(place: Place):
    place.send(event(1))
    source = place.worker()
    source.ack(read(source, 1))
    assert list(source.read(10, 0.05)) == []


def test_a_message_of_kafka_has_a_time_and_an_id_of_its_own(brokers: str):
    with ExitStack() as stack:
        place = kafka_place(brokers, "defaults", stack)
        place.send(b'{"user_id": "ann", "item_id": "i1", "kind": null}')
        found = read(place.worker(), 1)[0].event
        assert found is not None
        assert found.event_id.startswith("defaults/")
        assert found.ts_s > 1_700_000_000


def test_an_emptied_cache_is_a_gap(client: Redis):
    place = stream_place(client)
    source = place.worker()
    assert list(source.read(1, 0.01)) == []
    assert source.has_gap()  # it cannot know whether a group was there before
    assert not source.has_gap()
    client.flushall()
    place.send(event(1))
    assert ids(source.read(1, 0.1)) == ["e1"]
    assert source.has_gap()


def test_entries_that_were_trimmed_away_are_a_gap(client: Redis):
    place = stream_place(client)
    for number in range(3):
        place.send(event(number))
    assert len(read(place.worker(), 3)) == 3
    client.xtrim(IN_KEY, maxlen=1, approximate=False)
    other = place.worker()
    other.has_gap()
    assert ids(read(other, 1)) == ["e2"]
    assert other.has_gap()


def test_a_worker_that_leaves_with_work_stays_in_the_group(client: Redis):
    place = stream_place(client)
    place.send(event(1))
    source = place.worker()
    deliveries = read(source, 1)
    source.close()
    consumers: Any = client.xinfo_consumers(IN_KEY, GROUP)
    assert len(consumers) == 1
    source.ack(deliveries)
    source.close()
    assert client.xinfo_consumers(IN_KEY, GROUP) == []


def test_a_cache_that_is_away_is_named():
    with Redis.from_url("unix:///tmp/nothing-here.sock") as client:
        source = RedisStreamSource(client, "w")
        with pytest.raises(SourceUnavailableError, match="events from redis"):
            source.read(1, 0.1)
        assert source.waiting() is None
        source.close()
