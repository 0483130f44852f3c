"""Events of registered items are folded by the items' fields, whenever the items are registered."""

from typing import Any

import pytest

from models.contract.schema import UNKNOWN
from models.live.keys import CHANGED_KEY, IN_KEY
from models.live.new_items import MOST_READ, NEW_ITEMS_KEY
from service.errors import SourceUnavailableError
from service.follow.worker import Worker
from tests.service.follow.fragile import Fragile
from tests.service.follow.test_worker import (
    CASES,
    new_truth,
    new_worker,
    redis,
    server,
    settle,
)
from tests.service.follow.truth import DAY_S, FIRST_CUT_S, NEW_ITEM, Truth, event

__all__ = ["redis", "server"]  # fixtures


def started(builds, redis, kind: str = "by item") -> tuple[Truth, Worker]:
    truth = new_truth(builds, redis, kind)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    settle(worker)
    return truth, worker


def newest_rows(truth: Truth, user: str) -> list[int]:
    record = truth.stored(user, truth.current())
    assert record is not None
    return [int(row) for row in record.recent]


@pytest.mark.parametrize("kind", CASES)
def test_an_event_of_a_new_item_counts_as_its_prototype(builds, redis, kind):
    truth, worker = started(builds, redis, kind)
    first = truth.artifacts[0].vocabulary.first_prototype
    truth.register(NEW_ITEM, truth.some_fields(1))
    settle(worker)
    for user in ("u0", "u1", "new"):
        truth.post(event(user, NEW_ITEM, FIRST_CUT_S + 60, "a"))
        truth.post(event(user, "never registered", FIRST_CUT_S + 50, "b"))

    settle(worker)

    assert truth.check() == 3
    assert newest_rows(truth, "u1")[-2:] == [UNKNOWN, first + 1]


@pytest.mark.parametrize("kind", CASES)
def test_a_change_of_the_registry_reaches_what_was_folded_before(builds, redis, kind):
    truth, worker = started(builds, redis, kind)
    first = truth.artifacts[0].vocabulary.first_prototype
    for user in ("u0", "u1", "new"):
        truth.post(event(user, NEW_ITEM, FIRST_CUT_S + 60, "a"))
    truth.post(event("other", truth.items[0], FIRST_CUT_S + 60, "a"))
    settle(worker)
    assert newest_rows(truth, "u1")[-1] == UNKNOWN
    told = redis.xlen(CHANGED_KEY)

    for number in (1, 2):
        truth.register(NEW_ITEM, truth.some_fields(number))
        settle(worker)
        truth.check()
        assert newest_rows(truth, "u1")[-1] == first + number
        assert redis.xlen(CHANGED_KEY) == told + 3 * number  # no one else's record is touched
    truth.register("nobody bought it", truth.some_fields(0))
    settle(worker)
    assert redis.xlen(CHANGED_KEY) == told + 6
    truth.unregister(NEW_ITEM)
    settle(worker)
    truth.check()
    assert newest_rows(truth, "u1")[-1] == UNKNOWN


def test_what_was_registered_while_no_worker_ran_counts_at_the_start(builds, redis):
    truth, worker = started(builds, redis)
    truth.register(NEW_ITEM, truth.some_fields(1))
    settle(worker)
    truth.post(event("u1", NEW_ITEM, FIRST_CUT_S + 60, "a"))
    settle(worker)
    worker.targets.close()
    truth.unregister(NEW_ITEM)
    settle(new_worker(builds, redis, "next"))
    truth.check()
    assert newest_rows(truth, "u1")[-1] == UNKNOWN


@pytest.mark.parametrize("in_place", [False, True])
def test_a_publish_folds_with_the_items_of_now(builds, redis, in_place):
    truth, worker = started(builds, redis)
    truth.post(event("u1", NEW_ITEM, FIRST_CUT_S + 2 * DAY_S, "a"))
    truth.post(event("u1", NEW_ITEM, FIRST_CUT_S + 60, "b"))
    settle(worker)
    worker.targets.close()
    truth.register(NEW_ITEM, truth.some_fields(1))
    truth.deliver("u1")  # the build left the item out: its rows say unknown
    truth.publish(truth.artifacts[1], FIRST_CUT_S + DAY_S, in_place=in_place)
    truth.check()
    first = truth.artifacts[1].vocabulary.first_prototype
    assert newest_rows(truth, "u1")[-2:] == [UNKNOWN, first + 1]
    settle(new_worker(builds, redis, "next"))
    truth.check()


def test_an_event_that_the_build_has_as_unknown_does_not_count_twice(builds, redis):
    truth, worker = started(builds, redis)
    truth.register(NEW_ITEM, truth.some_fields(1))
    truth.log["u1"].append((FIRST_CUT_S + 60, NEW_ITEM))
    truth.publish(truth.artifacts[0], FIRST_CUT_S + DAY_S, in_place=False)
    truth.post(event("u1", NEW_ITEM, FIRST_CUT_S + 60, "a"))
    settle(worker)
    truth.check()
    rows = newest_rows(truth, "u1")
    assert rows[-1] == UNKNOWN
    assert max(rows) < truth.artifacts[0].vocabulary.first_prototype


def test_a_cache_that_dies_in_the_middle_of_a_catch_up_is_asked_again(builds, redis):
    """Of a start, a lost stream, a flip: what a look has noticed is not noticed again."""
    truth, _ = started(builds, redis)
    client = Fragile(redis)
    worker = new_worker(builds, client, "fragile")
    settle(worker)
    for number in range(14):
        truth.post(event("u1", truth.items[number % 9], FIRST_CUT_S + number, f"a{number}"))
        redis.delete(IN_KEY)
        if number % 3 == 0:
            cut_s = FIRST_CUT_S + number
            truth.publish(truth.artifacts[number % 2], cut_s, in_place=False)
            truth.post(event("u1", truth.items[3], cut_s, f"b{number}"))
            redis.delete(IN_KEY)
        client.before(number, fail)
        steps(worker)
        client.heal()
        settle(worker)
        truth.check()


def fail() -> None:
    raise ConnectionError("gone")


def steps(worker: Worker) -> None:
    for _ in range(3):
        try:
            worker.step()
        except (ConnectionError, SourceUnavailableError):
            continue


def test_a_cache_that_dies_in_the_middle_loses_no_user(builds, redis):
    truth, _ = started(builds, redis)
    client = Fragile(redis)
    worker = new_worker(builds, client, "fragile")
    for user in ("u0", "u1", "new"):
        truth.post(event(user, NEW_ITEM, FIRST_CUT_S + 60, "a"))
    settle(worker)

    for number in range(12):
        truth.register(NEW_ITEM, truth.some_fields(number))
        client.before(number, fail)
        steps(worker)
        client.heal()
        settle(worker)
        truth.check()


@pytest.mark.parametrize(
    "wrong",
    [
        {"": b"x"},
        {"": b"7", NEW_ITEM: b"no json"},
        {"": b"7", "\ud800".encode("utf-8", "surrogatepass"): b"{}"},
        {"": b"7", **{f"i{number}": b"{}" for number in range(MOST_READ + 1)}},
        None,
    ],
    ids=["version", "entry", "id", "too many", "no hash"],
)
def test_a_registry_that_cannot_be_read_stops_no_worker(builds, redis, wrong: Any):
    truth, worker = started(builds, redis)
    redis.delete(NEW_ITEMS_KEY)
    if wrong is None:
        redis.set(NEW_ITEMS_KEY, b"no hash")
    else:
        redis.hset(NEW_ITEMS_KEY, mapping=wrong)
    truth.post(event("u1", NEW_ITEM, FIRST_CUT_S + 60, "a"))
    settle(worker)
    truth.check()
    truth.publish(truth.artifacts[0], FIRST_CUT_S + DAY_S, in_place=False)
    settle(worker)
    truth.check()
    redis.delete(NEW_ITEMS_KEY)
    truth.register(NEW_ITEM, truth.some_fields(1))
    settle(worker)
    truth.check()
    assert redis.xlen(IN_KEY) == 0
