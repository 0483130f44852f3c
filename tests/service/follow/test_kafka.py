"""What only Kafka has: partitions that move between workers, times of messages, a topic that drops messages."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from models.live.event import MAX_EVENT_BYTES
from service.errors import SourceUnavailableError
from service.follow.sources.kafka import KafkaSource
from service.follow.sources.source import Delivery
from tests.service.follow.brokers import mock_cluster
from tests.service.follow.places import QUICK, as_message, event, ids, kafka_place, read


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with mock_cluster() as servers:
        yield servers


def test_a_message_of_kafka_has_a_time_and_an_id_of_its_own(brokers: str):
    with ExitStack() as stack:
        place = kafka_place(brokers, "defaults", stack)
        place.send(b'{"user_id": "ann", "item_id": "i1", "kind": null}')
        found = read(place.worker(), 1)[0].event
        assert found is not None
        assert found.event_id.startswith("defaults/")
        assert found.ts_s > 1_700_000_000


def test_a_message_of_kafka_has_ids_as_over_http(brokers: str):
    with ExitStack() as stack:
        place = kafka_place(brokers, "n" * 150, stack)
        place.send(b'{"user_id": 7, "item_id": 12}')
        place.send(b'{"user_id": true, "item_id": "i1"}')
        first, second = sorted(read(place.worker(), 2), key=lambda found: found.problem)
        assert first.event is not None
        assert (first.event.user_id, first.event.item_id) == ("7", "12")
        first.event.check(time.time())
        assert "user: got True" in second.problem


def test_workers_that_come_and_go_lose_nothing(brokers: str):
    with ExitStack() as stack:
        place = kafka_place(brokers, "rebalanced", stack)
        for number in range(40):
            place.send(event(number))
        first = place.worker()
        held = read(first, 5)
        second, found, idle = place.worker(), set[str](), 0
        for _ in range(100):
            batches = [(source, source.read(7, 0.2)) for source in (first, second)]
            if held:  # acknowledged after the partitions may have gone to the other worker
                first.ack(held)
                found |= set(ids(held))
                held = []
            for source, deliveries in batches:
                source.ack(deliveries)
                found |= set(ids(deliveries))
            idle = 0 if any(deliveries for _, deliveries in batches) else idle + 1
            if len(found) == 40 and idle > 5:
                break
        assert len(found) == 40
        second.close()
        place.send(event(40))
        assert ids(read(first, 1)) == ["e40"]


def test_a_worker_without_a_partition_waits_for_nothing(brokers: str):
    with ExitStack() as stack:
        place = kafka_place(brokers, "spare", stack)
        place.send(event(1))
        members = [place.worker() for _ in range(5)]  # of four partitions
        assert members[0].waiting() is None
        counts: list[int | None] = [None]
        for _ in range(100):
            for source in members:
                source.read(9, 0.1)
            counts = [source.waiting() for source in members]
            if None not in counts and sum(count or 0 for count in counts) == 1:
                return
        raise AssertionError(f"got {counts}, expected one event in all")


def test_a_worker_that_was_busy_for_long_joins_again(brokers: str):
    quick = {"max_poll_interval_ms": "6000"}
    with ExitStack() as stack:
        place = kafka_place(brokers, "busy", stack, **quick)
        place.send(event(1))
        source = place.worker()
        held = read(source, 1)
        time.sleep(8.0)  # a cache that was down, say: the group goes on without this member
        source.ack(held)
        place.send(event(2))
        found = set[str]()
        while "e2" not in found:
            found |= set(ids(read(source, 1)))


def test_messages_that_the_topic_dropped_unread_are_a_gap(brokers: str):
    with ExitStack() as stack:
        place = kafka_place(brokers, "short", stack)
        place.send(as_message(event(1)))
        source = place.worker()
        source.ack(read(source, 1))
        assert not source.has_gap()
        source.close()
        for _ in range(9):  # a mock broker keeps 5 MiB of a partition
            place.send(b"x" * 900_000)
        other = place.worker()
        read(other, 1)
        assert other.has_gap()
        assert not other.has_gap()


def test_a_dead_letter_that_is_not_taken_is_an_error():
    source = KafkaSource("127.0.0.1:1", "away", {**QUICK, "message.timeout.ms": "500"})
    with closing(source), pytest.raises(SourceUnavailableError, match="dead letters"):
        source.bury(Delivery("away/0/1", b"x", None, "why"), "why")


def test_the_beginning_of_a_long_dead_letter_is_kept(brokers: str):
    with ExitStack() as stack:
        place = kafka_place(brokers, "long", stack, message_max_bytes="40000")
        place.worker().bury(Delivery("long/0/1", b"x" * 100_000, None, "why"), "why")
        assert place.dead() == [(b"x" * MAX_EVENT_BYTES, "why")]
