"""A worker that does not know yet that a publish in place has ended, and what it leaves under the generation's keys."""

import pytest

from models.contract.errors import ForeignRecordError
from models.live.keys import DEAD_KEY, TOUCHED_KEY
from service.follow.worker import Worker
from tests.service.follow.test_worker import new_truth, new_worker, redis, server, settle
from tests.service.follow.truth import DAY_S, FIRST_CUT_S, LATENESS_S, event

__all__ = ["redis", "server"]  # fixtures


@pytest.mark.parametrize("is_known_elsewhere", [False, True])
def test_a_record_of_the_overwritten_artifact_is_made_anew(builds, redis, is_known_elsewhere):
    """Its worker folded a new user's event while the new artifact loaded. Services could not read it, for good."""
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    settle(worker)
    truth.publish(truth.artifacts[1], FIRST_CUT_S + DAY_S, in_place=True)
    truth.post(event("new", truth.items[2], FIRST_CUT_S + DAY_S + 9, "a"))
    _fold_into_what_it_knows(worker)
    with pytest.raises(ForeignRecordError):
        truth.check()

    settle(new_worker(builds, redis, "two") if is_known_elsewhere else worker)

    assert truth.check() == 3
    assert truth.stored("new", truth.current()) is not None


def test_a_record_of_the_overwritten_artifact_goes_if_the_generation_knows_nothing_of_the_user(
    builds, redis
):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    settle(worker)
    cut_s = FIRST_CUT_S + LATENESS_S + DAY_S
    truth.publish(truth.artifacts[1], cut_s, in_place=True)
    truth.post(event("new", truth.items[2], FIRST_CUT_S + 9, "a"))  # too late for the new one
    _fold_into_what_it_knows(worker)

    settle(worker)

    assert truth.stored("new", truth.current()) is None
    truth.check()
    assert redis.zscore(TOUCHED_KEY, "new")


@pytest.mark.parametrize("is_over", [False, True])
def test_a_worker_that_knows_the_overwritten_generation_leaves_new_records_alone(
    builds, redis, is_over
):
    truth = new_truth(builds, redis)
    truth.publish(truth.artifacts[0], FIRST_CUT_S, in_place=False)
    worker = new_worker(builds, redis)
    settle(worker)

    def late(_: int) -> None:
        before = {user: redis.get(truth.current().key(user)) for user in ("u0", "u1")}
        for user in before:
            truth.post(event(user, truth.items[2], FIRST_CUT_S + DAY_S + 9, "a"))
        _fold_into_what_it_knows(worker)
        after = {user: redis.get(truth.current().key(user)) for user in before}
        assert after == before

    hook = {} if is_over else {"progress": late}
    truth.publish(truth.artifacts[1], FIRST_CUT_S + DAY_S, in_place=True, **hook)
    if is_over:
        late(0)
    assert redis.xlen(DEAD_KEY) == 0
    settle(worker)
    truth.check()


def _fold_into_what_it_knows(worker: Worker) -> None:
    """Fold what waits, without a look at the pointers."""
    look = worker.targets.look
    worker.targets.look = lambda: None  # type: ignore[method-assign]
    assert worker.step() > 0
    worker.targets.look = look  # type: ignore[method-assign]
