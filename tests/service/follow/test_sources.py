"""Both sources keep one promise, on a real server and on librdkafka's mock brokers: at least once, until it is done."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from redis import Redis

from models.live.keys import EVENT_FIELD, GROUP, IN_KEY
from service.errors import SourceUnavailableError
from service.follow.sources.redis_stream import RedisStreamSource
from tests.service.follow.brokers import mock_cluster
from tests.service.follow.places import Place, event, ids, kafka_place, read, stream_place
from tests.valkey import emptied, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server() as url:
        yield url


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with mock_cluster() as servers:
        yield servers


@pytest.fixture
def client(server: str) -> Iterator[Redis]:
    with emptied(server) as client:
        yield client


@pytest.fixture(params=["redis", "kafka"])
def place(request: pytest.FixtureRequest, client: Redis) -> Iterator[Place]:
    with ExitStack() as stack:
        if request.param == "redis":
            yield stream_place(client)
        else:
            topic = f"t{abs(hash(request.node.name))}"
            yield kafka_place(request.getfixturevalue("brokers"), topic, stack)


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


def test_a_new_stream_is_told_from_a_lost_one(client: Redis, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "service.follow")
    place = stream_place(client)
    source = place.worker()
    place.send(event(1))
    source.ack(read(source, 1))
    assert [(one.levelname, "is new" in one.message) for one in caplog.records] == [("INFO", True)]
    caplog.clear()
    client.delete(IN_KEY)
    assert list(source.read(1, 0.01)) == []
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("WARNING", "the stream of events was lost")
    ]


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


def test_entries_that_were_trimmed_before_a_worker_read_them_are_a_gap(client: Redis):
    clock = [0.0]
    source = RedisStreamSource(client, "one", claim_every_s=5.0, clock=lambda: clock[0])

    def look() -> bool:
        clock[0] += 6.0
        source.ack(source.read(10, 0))
        return source.has_gap()

    def add(number: int) -> None:
        for place in range(number):
            client.xadd(IN_KEY, {EVENT_FIELD: event(place).to_bytes()})

    assert look()  # the group is new
    add(3)
    assert [look() for _ in range(3)] == [False] * 3
    for kept in (1, 0):
        add(3)
        client.xtrim(IN_KEY, maxlen=kept, approximate=False)
        assert [look(), look(), look()] == [True, False, False]
    client.delete(IN_KEY)
    add(3)
    client.xgroup_create(IN_KEY, GROUP, "$")
    assert look()
