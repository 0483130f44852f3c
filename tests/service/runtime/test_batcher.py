"""Batching: no batch exceeds a limit, every request gets one answer, and none waits while a runner is free."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import OverloadedError
from service.runtime.batcher import Batcher, BatchLimits
from tests.service.toy import Toy
from tests.service.world import HISTORIES, World

LIMITS = BatchLimits(jobs=4, cells=100, queue=50, wait_s=0.0, runners=1)
Job = tuple[str, int, int]
"""Key, slate's length, number."""


@dataclass
class Runs:
    """Doubles every number; keeps the batches; waits while the gate is closed."""

    batches: list[list[Job]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, jobs: Sequence[Job]) -> list[int | Exception]:
        with self.lock:
            self.batches.append(list(jobs))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.gate.wait(10)
        with self.lock:
            self.at_once -= 1
        return [ValueError(str(n)) if n < 0 else 2 * n for _, _, n in jobs]

    def batcher(self, limits: BatchLimits, threads: ThreadPoolExecutor) -> Batcher[str, Job, int]:
        return Batcher(lambda _, jobs: threads.submit(self, jobs), limits, lambda size: None)


async def _ask(batcher: Batcher[str, Job, int], jobs: Sequence[Job]) -> list[int | BaseException]:
    pending = [batcher.submit(job[0], job, job[1]) for job in jobs]
    return await asyncio.gather(*pending, return_exceptions=True)


@settings(max_examples=60)
@given(
    jobs=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 60), st.integers(0, 999)), max_size=30
    ),
    most=st.integers(1, 5),
    cells=st.integers(1, 200),
    runners=st.integers(1, 3),
    wait_s=st.sampled_from([0.0, 0.001]),
)
def test_no_batch_exceeds_a_limit_and_everybody_gets_his_own(jobs, most, cells, runners, wait_s):
    runs = Runs()
    runs.gate.set()
    limits = BatchLimits(most, cells, 50, wait_s, runners)
    with ThreadPoolExecutor(4) as threads:
        answers = asyncio.run(_ask(runs.batcher(limits, threads), jobs))
    assert answers == [2 * n for _, _, n in jobs]
    assert sorted(job for batch in runs.batches for job in batch) == sorted(jobs)
    assert runs.most_at_once <= runners
    for batch in runs.batches:
        assert len({key for key, _, _ in batch}) == 1
        assert len(batch) <= most
        assert len(batch) == 1 or len(batch) * max(length for _, length, _ in batch) <= cells


def test_those_that_wait_for_a_busy_runner_leave_together():
    runs = Runs()

    async def scenario() -> None:
        batcher = runs.batcher(LIMITS, threads)
        pending = [asyncio.create_task(_ask(batcher, [("a", 1, 0)]))]
        while not runs.batches:  # the first one leaves at once, alone
            await asyncio.sleep(0.001)
        pending += [asyncio.create_task(_ask(batcher, [("a", 1, n)])) for n in (1, 2, 3, 4, 5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert batcher.waiting == 5
        runs.gate.set()
        await asyncio.gather(*pending)

    with ThreadPoolExecutor(1) as threads:
        asyncio.run(scenario())
    assert [[n for _, _, n in batch] for batch in runs.batches] == [[0], [1, 2, 3, 4], [5]]


def test_a_free_runner_waits_wait_s_for_more_requests():
    runs = Runs()
    runs.gate.set()

    async def scenario() -> None:
        batcher = runs.batcher(replace(LIMITS, wait_s=0.2), threads)
        first = asyncio.create_task(_ask(batcher, [("a", 1, 1)]))
        await asyncio.sleep(0.01)
        assert runs.batches == []
        await asyncio.gather(first, _ask(batcher, [("a", 1, 2)]))

    with ThreadPoolExecutor(1) as threads:
        asyncio.run(scenario())
    assert [[n for _, _, n in batch] for batch in runs.batches] == [[1, 2]]


def test_an_error_reaches_only_its_own_request():
    runs = Runs()
    runs.gate.set()
    limits = replace(LIMITS, wait_s=0.05)
    with ThreadPoolExecutor(1) as threads:
        answers = asyncio.run(_ask(runs.batcher(limits, threads), [("a", 1, -7), ("a", 1, 4)]))
    assert isinstance(answers[0], ValueError)
    assert answers[1] == 8
    assert len(runs.batches) == 1


def test_a_failed_run_fails_exactly_its_requests():
    def broken(jobs: Sequence[Job]) -> list[int | Exception]:
        if any(n == 0 for _, _, n in jobs):
            raise RuntimeError("broken")
        return [n for _, _, n in jobs]

    with ThreadPoolExecutor(1) as threads:
        batcher = Batcher[str, Job, int](
            lambda _, jobs: threads.submit(broken, jobs), replace(LIMITS, jobs=1), lambda size: None
        )
        answers = asyncio.run(_ask(batcher, [("a", 1, 0), ("a", 1, 5)]))
    assert isinstance(answers[0], RuntimeError)
    assert answers[1] == 5


def test_a_full_queue_refuses_and_those_that_gave_up_make_room():
    runs = Runs()

    async def scenario() -> None:
        batcher = runs.batcher(replace(LIMITS, queue=2), threads)
        busy = asyncio.create_task(_ask(batcher, [("a", 1, 0)]))
        while not runs.batches:
            await asyncio.sleep(0.001)
        waiting = [asyncio.create_task(batcher.submit("a", ("a", 1, n), 1)) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await batcher.submit("a", ("a", 1, 3), 1)
        waiting[0].cancel()
        await asyncio.sleep(0)
        late = asyncio.create_task(batcher.submit("a", ("a", 1, 4), 1))
        await asyncio.sleep(0)
        runs.gate.set()
        assert await late == 8
        await asyncio.gather(busy, waiting[1])

    with ThreadPoolExecutor(1) as threads:
        asyncio.run(scenario())
    assert sorted(n for batch in runs.batches for _, _, n in batch) == [0, 2, 4]


@pytest.mark.parametrize(
    "wrong", [{"jobs": 0}, {"cells": 0}, {"queue": 0}, {"runners": 0}, {"wait_s": -1.0}]
)
def test_a_limit_that_makes_no_sense_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(LIMITS, **wrong)


@pytest.mark.anyio
async def test_joined_requests_get_the_scores_that_each_would_get_alone(world: World):
    toy = Toy()
    world.publish(toy)
    slates = {"ann": ["i1", "i5"], "bob": ["i9", "i2", "i3"], "nobody": ["i7"]}
    async with world.service(batch_max_requests=3, batch_wait_ms=50) as service:
        answers = await asyncio.gather(*(service.score(*one, recent=[]) for one in slates.items()))
        assert service.metric("absorb_batch_size_sum") == 3
        assert service.metric("absorb_batch_size_count") < 3
    for (user, slate), answer in zip(slates.items(), answers, strict=True):
        expected = toy.scores(toy.state(HISTORIES.get(user, [])), slate)
        assert answer["scores"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.anyio
async def test_a_cpu_joins_requests_only_if_a_setting_says_so(world: World):
    world.publish(Toy())
    async with world.service() as service:
        await asyncio.gather(*(service.score() for _ in range(4)))
        assert service.metric("absorb_batch_size_count") == 0
