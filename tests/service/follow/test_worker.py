"""The worker on a real server: events become parts of records, each once, whatever happens on the way."""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from models.contract.artifact import Artifact
from models.contract.state_spec import RecordDtype
from models.live.follow_status import FollowStatus, read_statuses
from models.live.forget import forget_in_cache
from models.live.keys import (
    CHANGED_KEY,
    DEAD_KEY,
    FOLLOWERS_KEY,
    IN_KEY,
    REASON_FIELD,
    follower_key,
    log_key,
)
from service.errors import MetricsPortError
from service.follow.graph import Loaded, load_folder
from service.follow.metrics import serve_metrics
from service.follow.sources.redis_stream import RedisStreamSource
from service.follow.targets import Targets
from service.follow.worker import Worker
from tests.builds import Builds
from tests.cases import Case
from tests.service.follow.fragile import Fragile, KilledError
from tests.service.follow.truth import DAY_S, FIRST_CUT_S, LATENESS_S, NOW_S, Truth, event
from tests.valkey import emptied, running_server

CASES = {
    "by item": Case("lrea", "activity"),
    "re-encode": Case("lrea", "hash"),
    "additive": Case("linear_attention", "default"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server() as url:
        yield url


@pytest.fixture
def redis(server: str) -> Iterator[Redis]:
    with emptied(server) as client:
        yield client


LOADED: dict[str, Loaded] = {}


def loader(builds: Builds) -> Callable[[str], Loaded]:
    def load(artifact_id: str) -> Loaded:
        if artifact_id not in LOADED:
            LOADED[artifact_id] = load_folder(builds.artifacts, artifact_id)
        return LOADED[artifact_id]

    return load


def new_worker(builds: Builds, client: Any, name: str = "one") -> Worker:
    """A worker that takes over at once what others left."""
    source = RedisStreamSource(client, name, claim_idle_s=0.0, claim_every_s=0.0)
    ticks = iter(range(10**9))
    targets = Targets(client, loader(builds), (), lambda: float(next(ticks)))
    clock = iter(range(10**9))
    # Every step looks at the pointers: 2 s pass between two looks at the clock.
    return Worker(client, source, targets, lambda: NOW_S + 2.0 * next(clock))


def settle(*workers: Worker) -> None:
    """Work until nothing is left."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        done = [worker.step() for worker in workers]
        is_loading = any(worker.targets.is_loading for worker in workers)
        if is_loading:
            time.sleep(0.01)
        behind = any(sum(worker.targets.behind.values()) for worker in workers)
        if not any(done) and not is_loading and not behind:
            return
    raise AssertionError("the workers do not come to rest")


def sample(worker: Worker, name: str, **labels: str) -> float:
    """Value of one of the worker's metrics; 0 if it was never touched."""
    registry = worker.targets.metrics.registry
    return registry.get_sample_value(f"absorb_worker_{name}", labels) or 0.0


def new_truth(
    builds: Builds, redis: Redis, kind: str = "by item", dtype: RecordDtype = "fp32"
) -> Truth:
    other = "re-encode" if kind == "by item" else "by item"
    artifacts: list[Artifact] = [builds.artifact(CASES[name]) for name in (kind, other)]
    truth = Truth(redis, artifacts, dtype)
    items = truth.items
    for number, size in enumerate((40, 3)):
        truth.log[f"u{number}"] = [
            (FIRST_CUT_S - 3600 * (size - n), items[(n * 7 + number) % 9]) for n in range(size)
        ]
    return truth


@pytest.mark.parametrize("kind", CASES)
def test_an_event_changes_the_record_and_is_folded_once(builds, redis, kind):
    truth = new_truth(builds, redis, kind)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    settle(worker)
    before = truth.stored("u1", truth.current())

    for user, name in [("u1", "a"), ("u1", "b"), ("u0", "a"), ("u1", "a"), ("new", "a")]:
        truth.post(event(user, truth.items[3], FIRST_CUT_S + 60, name))
    truth.post(event("u1", "an item of tomorrow", FIRST_CUT_S - 1800, "late"), in_log=False)
    settle(worker)

    assert truth.check() == 3
    after = truth.stored("u1", truth.current())
    assert before is not None
    assert after is not None
    assert before.mark is None
    assert after.version >= 3
    assert redis.xlen(IN_KEY) == 0
    changed = {fields[b"u"] for _, fields in redis.xrange(CHANGED_KEY)}
    assert changed == {b"u0", b"u1", b"new"}
    assert {target.folder.name for target in worker.targets.folded} == {kind}
    assert sample(worker, "records_total", folder=kind, result="written") >= 3
    assert sample(worker, "events_total") == worker.tally.events == 6
    assert sample(worker, "catch_ups_total", model="followed") >= 1


def test_what_cannot_be_folded_becomes_a_dead_letter_with_the_reason(builds, redis):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    settle(worker)
    redis.xadd(IN_KEY, {"e": b"{"})
    redis.xadd(IN_KEY, {"x": b"1"})
    redis.xadd(IN_KEY, {"e": event("u1", "", FIRST_CUT_S, "a").to_bytes()})
    redis.xadd(IN_KEY, {"e": event("u1", "i", NOW_S + 10**7, "b").to_bytes()})
    redis.xadd(IN_KEY, {"e": event("u1", "i", FIRST_CUT_S - LATENESS_S - 1, "c").to_bytes()})
    truth.post(event("u1", truth.items[0], FIRST_CUT_S - LATENESS_S, "d"), in_log=False)

    settle(worker)

    reasons = [fields[REASON_FIELD.encode()].decode() for _, fields in redis.xrange(DEAD_KEY)]
    assert len(reasons) == worker.tally.dead == 5
    for reason, expected in zip(
        reasons, ["expected JSON", "no field 'e'", "item_id: got ''", "ts_s: got", "7 days"],
        strict=True,
    ):  # fmt: skip
        assert expected in reason
    counts = {"unreadable": 2, "refused": 2, "too_late": 1, "not_folded": 0}
    for reason, count in counts.items():
        assert sample(worker, "dead_letters_total", reason=reason) == count
    assert redis.hlen(log_key("u1")) == 2  # the one event in time, and the version
    truth.check()


def test_a_publish_before_the_worker_starts_catches_up_and_so_does_the_worker(builds, redis):
    truth = new_truth(builds, redis)
    truth.post(event("u1", truth.items[1], FIRST_CUT_S + 5, "a"))
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    truth.check()  # the publish folded it
    truth.post(event("u0", truth.items[1], FIRST_CUT_S + 6, "b"))
    redis.delete(IN_KEY)  # the stream is lost

    settle(new_worker(builds, redis))

    truth.check()


@pytest.mark.parametrize("in_place", [False, True])
def test_events_in_the_middle_of_a_publish_are_in_the_new_generation(builds, redis, in_place):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    settle(worker)
    truth.post(event("u1", truth.items[1], FIRST_CUT_S + 5, "a"))
    settle(worker)

    def meanwhile(_: int) -> None:
        truth.post(event("u1", truth.items[2], FIRST_CUT_S + DAY_S + 9, "b"))
        truth.post(event("fresh", truth.items[2], FIRST_CUT_S + DAY_S + 9, "b"))
        settle(worker)

    cut_s = FIRST_CUT_S + DAY_S
    truth.deliver("u1")
    truth.publish(truth.artifacts[1], cut_s, in_place=in_place, progress=meanwhile)
    truth.check()  # before the worker knows of it
    settle(worker)
    truth.check()


def test_an_artifact_that_nothing_needs_any_more_is_not_waited_for(builds, redis):
    truth, may_load = new_truth(builds, redis), threading.Event()

    def load(artifact_id: str) -> Loaded:
        assert may_load.wait(60)
        return loader(builds)(artifact_id)

    targets = Targets(redis, load, (), time.monotonic)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    targets.look()
    truth.publish(truth.artifacts[1], FIRST_CUT_S, in_place=False)
    targets.look()
    may_load.set()
    deadline_s = time.monotonic() + 60
    while targets.is_loading and time.monotonic() < deadline_s:
        targets.look()
        time.sleep(0.01)

    assert not targets.is_loading
    assert [one.generation.artifact_id for one in targets.folded] == [
        truth.artifacts[1].artifact_id
    ]
    targets.close()


def test_a_rollback_is_caught_up(builds, redis):
    from builder.publish.generations import rollback
    from tests.service.follow.truth import MODEL

    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    settle(worker)
    truth.publish(truth.artifacts[1], FIRST_CUT_S + 9, in_place=False)
    settle(worker)
    truth.post(event("u1", truth.items[1], FIRST_CUT_S + 50, "a"))
    settle(worker)

    rollback(redis, MODEL)
    settle(worker)

    assert truth.check() == 2


def test_a_generation_without_base_histories_is_not_followed_and_the_log_says_so(
    builds, redis, caplog
):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False, histories=None)
    current = truth.current()
    before = redis.get(current.key("u1"))
    worker = new_worker(builds, redis)
    settle(worker)

    truth.post(event("u1", truth.items[1], FIRST_CUT_S + 50, "a"))
    settle(worker)

    assert redis.get(current.key("u1")) == before
    assert "do not follow events" in caplog.text
    assert redis.xlen(IN_KEY) == 0


def test_a_forgotten_user_does_not_come_back(builds, redis):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    client = Fragile(redis)
    worker = new_worker(builds, client)
    settle(worker)
    truth.post(event("u1", truth.items[1], FIRST_CUT_S + 50, "a"))

    def forget() -> None:
        forget_in_cache(redis, "u1")

    for number in range(60):
        client.before(number, forget)
        truth.forgotten.discard("u1")
        worker.step()
        client.heal()
        forget()
        truth.forgotten.add("u1")
        keys = [key for key in redis.scan_iter("*") if b"u1" in key]
        assert keys == [], number
        redis.delete("absorb:{control}:forgotten")
        redis.xadd(IN_KEY, {"e": event("u1", "x", FIRST_CUT_S + 9, f"e{number}").to_bytes()})


@pytest.mark.parametrize("in_log", [True, False], ids=["over HTTP", "from another source"])
def test_killed_before_any_command_nothing_is_lost_and_nothing_counts_twice(builds, redis, in_log):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    settle(new_worker(builds, redis))
    number = 0
    while True:
        client = Fragile(redis)
        worker = new_worker(builds, client, f"w{number}")
        for user in ("u0", "u1", "new"):
            bought = event(user, truth.items[number % 9], FIRST_CUT_S + number, f"e{number}")
            truth.post(bought, in_log=in_log)
        client.kill_before(number)
        try:
            settle(worker)
        except KilledError:
            settle(new_worker(builds, redis, "heir"))
            truth.check()
            number += 1
            continue
        break
    assert number > 20  # there are many places to be killed at
    assert redis.xlen(IN_KEY) == 0


def test_two_workers_that_fold_one_user_at_once(builds, redis):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    other = new_worker(builds, redis, "other")
    client = Fragile(redis)
    worker = new_worker(builds, client, "one")
    settle(worker, other)
    for number in range(40):
        truth.post(event("u1", truth.items[number % 9], FIRST_CUT_S + number, f"a{number}"))
        truth.post(event("new", truth.items[number % 9], FIRST_CUT_S + number, f"a{number}"))

        def meanwhile(number: int = number) -> None:
            truth.post(event("u1", truth.items[3], FIRST_CUT_S + number, f"b{number}"))
            truth.post(event("new", truth.items[3], FIRST_CUT_S + number, f"b{number}"))
            other.step()

        client.before(number, meanwhile)
        settle(worker, other)
        client.heal()
        truth.check()
    assert sample(worker, "compare_and_set_retries_total") > 0


def test_the_status_says_how_far_the_worker_is(builds, redis):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    truth.post(event("u1", truth.items[1], FIRST_CUT_S + 50, "a"))

    settle(worker)

    (status,) = map(FollowStatus.from_bytes, read_statuses(redis))
    assert (status.events, status.backlog) == (1, 0)
    assert status.behind == {"followed": 0}
    (name,) = redis.smembers(FOLLOWERS_KEY)
    assert 0 < redis.ttl(follower_key(name.decode())) <= 15
    worker.leave()
    assert not read_statuses(redis)


def test_a_worker_answers_scrapes(builds, redis):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    port = serve_metrics(worker.targets.metrics, "127.0.0.1", 0)
    truth.post(event("u1", truth.items[1], FIRST_CUT_S + 50, "a"))
    settle(worker)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()

    assert {
        "absorb_worker_events_total 1.0",
        "absorb_worker_waiting_events 0.0",
        "absorb_worker_lag_seconds 0.0",
        'absorb_worker_behind_users{model="followed"} 0.0',
        'absorb_worker_dead_letters_total{reason="too_late"} 0.0',
    } <= set(lines)
    with pytest.raises(MetricsPortError, match=f"got 127.0.0.1:{port}, expected a free port"):
        serve_metrics(worker.targets.metrics, "127.0.0.1", port)


def test_old_events_leave_the_log_and_no_window_changes(builds, redis):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    settle(worker)
    for number in range(60):
        truth.post(event("u1", truth.items[number % 9], FIRST_CUT_S + number, f"a{number:03}"))
        if number % 7 == 0:
            settle(worker)
            truth.check()
    settle(worker)
    truth.check()
    assert redis.hlen(log_key("u1")) < 60
    for days in (9, 10):
        truth.deliver("u1")
        truth.publish(truth.artifacts[0], FIRST_CUT_S + days * DAY_S, in_place=False)
    truth.post(event("u1", truth.items[0], FIRST_CUT_S + 10 * DAY_S, "z"))
    settle(worker)
    truth.check()
    assert redis.hlen(log_key("u1")) == 2
