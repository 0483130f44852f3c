"""Several workers as processes: each says for itself how far it is, and services join what those that run say."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from models.live.follow_status import (
    TTL_S,
    FollowStatus,
    follower_names,
    following,
    read_statuses,
    write_status,
)
from models.live.keys import FOLLOWERS_KEY, follower_key
from service.tools.running_worker import running_worker, wait_until_follows
from tests.service.follow.test_worker import new_truth, redis, server
from tests.service.follow.truth import FIRST_CUT_S, MODEL, event

__all__ = ["redis", "server"]  # fixtures


def until(is_so: Callable[[], bool], limit_s: float) -> None:
    deadline_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_each_worker_counts_until_it_stops_or_its_status_expires(
    builds, redis: Redis, server: str, tmp_path: Path
):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    variables = {"ABSORB_CACHE_URL": server, "ABSORB_ARTIFACT_DIR": str(builds.artifacts)}

    def running() -> int:
        together = following(read_statuses(redis))
        return 0 if together is None else together.num_workers

    with ExitStack() as stack:
        logs = [tmp_path / name for name in ("killed.log", "stopped.log")]
        processes = []
        for log in logs:
            processes.append(stack.enter_context(running_worker(log, variables)))
            wait_until_follows(redis, MODEL, processes[-1], log)
        until(lambda: running() == 2, 10.0)
        processes[0].kill()
        processes[0].wait()
        names = follower_names(redis.smembers(FOLLOWERS_KEY))
        assert running() == 2  # not longer than the status is kept
        assert all(0 < redis.ttl(follower_key(name)) <= TTL_S for name in names)
        truth.post(event("u1", truth.items[1], FIRST_CUT_S + 50, "after the kill"))
        until(lambda: running() == 1, TTL_S + 5.0)
        until(lambda: redis.scard(FOLLOWERS_KEY) == 1, 10.0)  # the other one removes its name
        together = following(read_statuses(redis))
        assert together is not None
        assert (together.backlog, together.behind) == (0, {MODEL: 0})
        truth.check()
    assert read_statuses(redis) == []


def test_what_waits_for_several_workers_is_counted_once():
    def together(*statuses: FollowStatus):
        return following(status.to_bytes() for status in statuses)

    stream = FollowStatus(100, "1-0", 2.5, 7, 9, {"a": 3, "b": 0})
    other = FollowStatus(90, "2-0", 0.5, 6, 2, {"a": 1, "c": 5})
    joined = together(stream, other)
    assert joined is not None
    assert (joined.num_workers, joined.at_s, joined.lag_s, joined.backlog) == (2, 90, 2.5, 7)
    assert joined.behind == {"a": 3, "b": 0, "c": 5}
    parts = [FollowStatus(100, backlog=count, counts_all=False) for count in (7, 6, 0)]
    joined = together(*parts)
    assert joined is not None
    assert joined.backlog == 13
    joined = together(stream, FollowStatus(100))
    assert joined is not None
    assert joined.backlog is None  # a source that cannot tell may hold any number
    assert together() is None


@pytest.mark.parametrize(
    "wrong", [b"", b"{", b"[]", b"null", b'{"at_s": 1, "backlog": "x"}', b'{"at_s": true}',
              b'{"at_s": 1, "behind": {"a": null}}', b'{"at_s": 1, "other": 1}']
)  # fmt: skip
def test_a_status_that_cannot_be_read_does_not_hide_others(redis: Redis, wrong: bytes):
    for name in ("a", "b"):
        write_status(redis, name, FollowStatus(100, backlog=7))
    redis.set(follower_key("a"), wrong, ex=TTL_S)
    together = following(read_statuses(redis))
    assert together is not None
    assert (together.num_workers, together.backlog) == (1, 7)
