"""Permits and the queue: exact counts in every order of events."""

import asyncio
import time
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.errors import DeadlineError, OverloadedError
from service.scoring.admission import MAX_RETRY_AFTER_S, Admission, Permit, level_of

MAX_WAIT_S = 10.0


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose time moves only when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.timers: list[asyncio.TimerHandle] = []

    def call_at(self, *arguments: Any, **more: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        self.timers.append(super().call_at(*arguments, **more))
        return self.timers[-1]

    def num_timers(self) -> int:
        """Timers that will still fire."""
        return sum(not one.cancelled() and one.when() > self.now_s for one in self.timers)

    def time(self) -> float:
        return self.now_s

    def settle(self) -> None:
        """Run until nothing is ready."""
        for _ in range(4):
            self.run_until_complete(asyncio.sleep(0))


class Asker:
    """One request: it has a permit, waits, or has ended in exactly one way."""

    def __init__(self, admission: Admission, priority: int, loop: SteppedLoop) -> None:
        self.priority = priority
        self.since_s = loop.time()
        self.permit: Permit | None = None
        self.ends: list[str] = []
        self.go = asyncio.Event()
        self.task = loop.create_task(self._run(admission))

    async def _run(self, admission: Admission) -> None:
        try:
            with admission.take() or await admission.wait(self.priority) as self.permit:
                await self.go.wait()
            self.ends.append("answered")
        except OverloadedError:
            self.ends.append("rejected")
        except asyncio.CancelledError:
            self.ends.append("cancelled")


class Admissions(RuleBasedStateMachine):
    """Compares an admission with a simple model of it: two lists."""

    @initialize(limit=st.integers(1, 3), max_queue=st.integers(0, 3))
    def start(self, limit: int, max_queue: int) -> None:
        self.loop = SteppedLoop()
        self.limit, self.max_queue = limit, max_queue
        self.reasons: list[str] = []
        self.admission = Admission(limit, max_queue, MAX_WAIT_S, self.reasons.append)
        self.inside: list[Asker] = []
        self.waiting: list[Asker] = []
        self.expected: dict[Asker, str] = {}

    @rule(priority=st.integers(0, 7))
    def arrive(self, priority: int) -> None:
        asker = Asker(self.admission, priority, self.loop)
        self.loop.settle()
        if len(self.inside) < self.limit:
            self.inside.append(asker)
        elif len(self.waiting) < self.max_queue:
            self.waiting.append(asker)
        else:
            newest_first = reversed(self.waiting)
            least = max(newest_first, key=lambda one: level_of(one.priority), default=None)
            if least is None or level_of(least.priority) <= level_of(priority):
                self.expected[asker] = "rejected"
            else:
                self.waiting.remove(least)
                self.expected[least] = "rejected"
                self.waiting.append(asker)

    @precondition(lambda self: self.inside)
    @rule(number=st.integers(0, 100))
    def answer(self, number: int) -> None:
        asker = self._returns_permit(number)
        asker.go.set()
        self.expected[asker] = "answered"
        self.loop.settle()

    @precondition(lambda self: self.inside)
    @rule(number=st.integers(0, 100))
    def cancel_inside(self, number: int) -> None:
        asker = self._returns_permit(number)
        asker.task.cancel()
        self.expected[asker] = "cancelled"
        self.loop.settle()

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0, 100))
    def cancel_waiting(self, number: int) -> None:
        asker = self.waiting.pop(number % len(self.waiting))
        asker.task.cancel()
        self.expected[asker] = "cancelled"
        self.loop.settle()

    @precondition(lambda self: self.inside and self.waiting)
    @rule(number=st.integers(0, 100), is_first=st.booleans())
    def cancel_a_waiter_that_gets_a_permit(self, number: int, is_first: bool) -> None:
        """Cancel a waiter in the turn of the loop in which it gets a permit, in either order of the two events."""
        successor = self._next()
        asker = self.inside[number % len(self.inside)]
        self.waiting.remove(successor)
        self._returns_permit(number)
        if is_first:
            successor.task.cancel()
            asker.go.set()
        else:
            asker.go.set()
            # The permit is handed over when the asker runs; the successor runs after it.
            self.loop.call_soon(successor.task.cancel)
        self.expected[asker], self.expected[successor] = "answered", "cancelled"
        self.loop.settle()

    def _returns_permit(self, number: int) -> Asker:
        asker = self.inside.pop(number % len(self.inside))
        if self.waiting:
            successor = self._next()
            self.waiting.remove(successor)
            self.inside.append(successor)
        return asker

    def _next(self) -> Asker:
        return min(self.waiting, key=lambda one: level_of(one.priority))

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now_s += seconds
        self.loop.settle()
        for asker in list(self.waiting):
            if self.loop.now_s >= asker.since_s + MAX_WAIT_S:
                self.waiting.remove(asker)
                self.expected[asker] = "rejected"

    @invariant()
    def only_waiters_have_timers(self) -> None:
        assert self.loop.num_timers() == len(self.waiting)

    @invariant()
    def counts_are_exact(self) -> None:
        assert self.admission.in_flight == len(self.inside) <= self.limit
        assert self.admission.waiting == len(self.waiting) <= self.max_queue
        assert all(asker.permit and not asker.ends for asker in self.inside)
        assert all(not asker.permit and not asker.ends for asker in self.waiting)
        assert all(asker.ends == [end] for asker, end in self.expected.items())
        assert len(self.reasons) == list(self.expected.values()).count("rejected")
        assert 1 <= self.admission.retry_after_s() <= MAX_RETRY_AFTER_S

    def teardown(self) -> None:
        while self.inside:
            self.answer(0)
        self.counts_are_exact()
        self.loop.close()


Admissions.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_counts_are_exact = Admissions.TestCase


@pytest.fixture
def rejections() -> list[str]:
    return []


@pytest.mark.anyio
async def test_a_permit_is_taken_until_abandoned_work_ends(rejections: list[str]):
    admission = Admission(1, 0, 1.0, rejections.append)
    work: Future[Any] = Future()
    work.set_running_or_notify_cancel()
    permit = admission.take()
    assert permit is not None
    with permit:
        permit.keep_until(work)
    assert (admission.in_flight, admission.take()) == (1, None)
    work.set_result(None)
    await asyncio.sleep(0.01)
    assert admission.in_flight == 0


@pytest.mark.anyio
async def test_retry_after_follows_the_mean_duration(rejections: list[str]):
    admission = Admission(2, 0, 1.0, rejections.append)
    for took_s in [4.0, 4.0, 4.0]:
        assert admission.take()
        admission.give_back(took_s)
    assert admission.take()
    assert admission.take()
    with pytest.raises(OverloadedError, match="2 requests are being scored, and") as rejected:
        await admission.wait(0)
    assert rejected.value.retry_after_s == 4
    admission.give_back(1e6)
    assert admission.take()
    assert admission.retry_after_s() == MAX_RETRY_AFTER_S
    assert rejections == ["queue_full"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("mean_s", "answer_s"), [(0.0, 1), (0.4, 1), (1.0, 1), (1.01, 2), (1.5, 2), (29.5, 30)]
)
async def test_retry_after_is_rounded_up(rejections: list[str], mean_s: float, answer_s: int):
    admission = Admission(1, 0, 1.0, rejections.append)
    assert admission.take()
    admission.give_back(mean_s)
    assert admission.take()
    assert admission.retry_after_s() == answer_s


@pytest.mark.anyio
async def test_the_newest_of_the_lowest_priority_is_pushed_out(rejections: list[str]):
    admission = Admission(1, 4, 60.0, rejections.append)
    permit = admission.take()
    assert permit is not None
    ended: list[str] = []

    async def ask(name: str, priority: int) -> None:
        try:
            with await admission.wait(priority):
                ended.append(name)
        except OverloadedError:
            ended.append(f"{name} rejected")

    tasks = []
    waiters = [("usual", 3), ("low 1", 4), ("lowest 1", 5), ("lowest 2", 5)]
    for name, priority in [*waiters, ("urgent 1", 1), ("urgent 2", 1), ("urgent 3", 1)]:
        tasks.append(asyncio.create_task(ask(name, priority)))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ended == ["lowest 2 rejected", "lowest 1 rejected", "low 1 rejected"]
    with permit:
        pass
    await asyncio.gather(*tasks)
    assert ended[3:] == ["urgent 1", "urgent 2", "urgent 3", "usual"]
    assert rejections == ["pushed_out"] * 3


@pytest.mark.anyio
async def test_the_mean_follows_the_latest_durations_slowly(rejections: list[str]):
    admission = Admission(1, 1, 60.0, rejections.append)
    assert admission.take()
    admission.give_back(4.0)  # the first is the mean
    admission.take()
    admission.give_back(104.0)  # each later one weighs 0.05
    admission.take()
    assert admission.retry_after_s() == 9
    waiting = asyncio.create_task(admission.wait(0))
    await asyncio.sleep(0)
    assert admission.retry_after_s() == 18  # the waiting one takes as long
    admission.give_back(9.0)
    with await waiting:
        pass


@pytest.mark.anyio
async def test_a_permit_knows_how_long_it_was_held(
    rejections: list[str], monkeypatch: pytest.MonkeyPatch
):
    admission = Admission(1, 0, 1.0, rejections.append)
    now_s = 1000.0
    monkeypatch.setattr("service.scoring.admission.time.monotonic", lambda: now_s)
    permit = admission.take()
    assert permit is not None
    now_s = 1007.0
    with permit:
        pass
    assert admission.take()
    assert admission.retry_after_s() == 7


@pytest.mark.anyio
async def test_a_permit_for_a_waiter_cancelled_in_the_same_turn_becomes_free(
    rejections: list[str],
):
    admission = Admission(1, 2, 60.0, rejections.append)
    permit = admission.take()
    assert permit is not None
    waiter = asyncio.create_task(admission.wait(0))
    await asyncio.sleep(0)
    waiter.cancel()
    with permit:  # its return finds the cancelled waiter in the queue
        pass
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (admission.in_flight, admission.waiting, rejections) == (0, 0, [])


@pytest.mark.anyio
@pytest.mark.parametrize("is_cancelled_first", [True, False])
async def test_a_waiter_pushed_out_and_cancelled_in_one_turn_leaves_once(
    rejections: list[str], is_cancelled_first: bool
):
    admission = Admission(1, 1, 60.0, rejections.append)
    permit = admission.take()
    assert permit is not None
    waiter = asyncio.create_task(admission.wait(5))
    await asyncio.sleep(0)
    urgent = asyncio.create_task(admission.wait(1))
    if is_cancelled_first:
        waiter.cancel()
    else:
        asyncio.get_running_loop().call_soon(waiter.cancel)
    await asyncio.wait([waiter])
    assert waiter.cancelled()
    assert (admission.in_flight, admission.waiting) == (1, 1)
    with permit:
        pass
    with await urgent:
        assert admission.in_flight == 1
    assert (admission.in_flight, admission.waiting) == (0, 0)


@pytest.mark.anyio
async def test_each_rejection_says_why(rejections: list[str]):
    admission = Admission(1, 1, 0.02, rejections.append)
    assert admission.take()
    late = asyncio.create_task(admission.wait(3))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="1 requests are being scored, and 1 wait"):
        await admission.wait(3)
    with pytest.raises(OverloadedError, match="no permit became free in 20 ms"):
        await late
    low = asyncio.create_task(admission.wait(5))
    await asyncio.sleep(0)
    urgent = asyncio.create_task(admission.wait(1))
    with pytest.raises(OverloadedError, match="full, and a request of a higher priority took"):
        await low
    admission.give_back(0.0)
    await urgent
    assert rejections == ["queue_full", "queue_wait", "pushed_out"]


@pytest.mark.anyio
async def test_work_that_waits_for_nothing_still_has_a_deadline(rejections: list[str]):
    admission = Admission(1, 0, 1.0, rejections.append)
    with pytest.raises(DeadlineError):
        async with admission.admit(time.monotonic() - 0.001, 0):
            pass
    with pytest.raises(KeyError):  # its own error says more
        async with admission.admit(time.monotonic() - 0.001, 0):
            raise KeyError
    assert (admission.in_flight, rejections) == (0, ["deadline"])


@pytest.mark.anyio
async def test_the_deadline_ends_only_what_it_cancelled(rejections: list[str]):
    admission = Admission(1, 0, 1.0, rejections.append)

    async def hold(deadline_s: float) -> None:
        async with admission.admit(time.monotonic() + deadline_s, 0):
            await asyncio.sleep(60)

    with pytest.raises(DeadlineError):
        await hold(0.01)
    task = asyncio.create_task(hold(60.0))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (admission.in_flight, rejections) == (0, ["deadline"])
