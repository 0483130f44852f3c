"""Places and the queue: exact counts, whatever happens in whatever order."""

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.errors import OverloadedError
from service.scoring.admission import MAX_RETRY_AFTER_S, Admission, Place, level_of

MAX_WAIT_S = 10.0


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose time moves only when told."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def settle(self) -> None:
        """Run until nothing is ready."""
        for _ in range(4):
            self.run_until_complete(asyncio.sleep(0))


class Asker:
    """One request: it has a place, waits, or has ended in exactly one way."""

    def __init__(self, admission: Admission, priority: int, loop: SteppedLoop) -> None:
        self.priority = priority
        self.since_s = loop.time()
        self.place: Place | None = None
        self.ends: list[str] = []
        self.go = asyncio.Event()
        self.task = loop.create_task(self._run(admission))

    async def _run(self, admission: Admission) -> None:
        try:
            with admission.take() or await admission.wait(self.priority) as self.place:
                await self.go.wait()
            self.ends.append("answered")
        except OverloadedError:
            self.ends.append("refused")
        except asyncio.CancelledError:
            self.ends.append("cancelled")


class Admissions(RuleBasedStateMachine):
    """Drives an admission beside the plainest model of one: two lists."""

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
                self.expected[asker] = "refused"
            else:
                self.waiting.remove(least)
                self.expected[least] = "refused"
                self.waiting.append(asker)

    @precondition(lambda self: self.inside)
    @rule(number=st.integers(0, 100))
    def answer(self, number: int) -> None:
        asker = self._leaves_place(number)
        asker.go.set()
        self.expected[asker] = "answered"
        self.loop.settle()

    @precondition(lambda self: self.inside)
    @rule(number=st.integers(0, 100))
    def cancel_inside(self, number: int) -> None:
        asker = self._leaves_place(number)
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
    def cancel_who_is_handed_a_place(self, number: int, is_first: bool) -> None:
        """Both in one turn of the loop, in either order: the heir has not run when the other happens."""
        heir = self._next()
        asker = self.inside[number % len(self.inside)]
        self.waiting.remove(heir)
        self._leaves_place(number)
        if is_first:
            heir.task.cancel()
            asker.go.set()
        else:
            asker.go.set()
            # The place is handed over in the asker's own turn; the heir's comes after it.
            self.loop.call_soon(heir.task.cancel)
        self.expected[asker], self.expected[heir] = "answered", "cancelled"
        self.loop.settle()

    def _leaves_place(self, number: int) -> Asker:
        asker = self.inside.pop(number % len(self.inside))
        if self.waiting:
            heir = self._next()
            self.waiting.remove(heir)
            self.inside.append(heir)
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
                self.expected[asker] = "refused"

    @invariant()
    def counts_are_exact(self) -> None:
        assert self.admission.in_flight == len(self.inside) <= self.limit
        assert self.admission.waiting == len(self.waiting) <= self.max_queue
        assert all(asker.place and not asker.ends for asker in self.inside)
        assert all(not asker.place and not asker.ends for asker in self.waiting)
        assert all(asker.ends == [end] for asker, end in self.expected.items())
        assert len(self.reasons) == list(self.expected.values()).count("refused")
        assert 1 <= self.admission.retry_after_s() <= MAX_RETRY_AFTER_S

    def teardown(self) -> None:
        while self.inside:
            self.answer(0)
        self.counts_are_exact()
        self.loop.close()


Admissions.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_counts_are_exact_whatever_happens = Admissions.TestCase


@pytest.fixture
def refusals() -> list[str]:
    return []


@pytest.mark.anyio
async def test_work_that_nobody_waits_for_keeps_its_place(refusals: list[str]):
    admission = Admission(1, 0, 1.0, refusals.append)
    work: Future[Any] = Future()
    work.set_running_or_notify_cancel()
    place = admission.take()
    assert place is not None
    with place:
        place.keep_until(work)
    assert (admission.in_flight, admission.take()) == (1, None)
    work.set_result(None)
    await asyncio.sleep(0.01)
    assert admission.in_flight == 0


@pytest.mark.anyio
async def test_it_says_when_to_come_back_by_the_pace_of_the_latest(refusals: list[str]):
    admission = Admission(2, 0, 1.0, refusals.append)
    for took_s in [4.0, 4.0, 4.0]:
        assert admission.take()
        admission.give_back(took_s)
    assert admission.take()
    assert admission.take()
    with pytest.raises(OverloadedError, match="2 requests are being scored already") as refused:
        await admission.wait(0)
    assert refused.value.retry_after_s == 4
    admission.give_back(1e6)
    assert admission.take()
    assert admission.retry_after_s() == MAX_RETRY_AFTER_S
    assert refusals == ["queue_full"]
