import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.arrivals import pace, poisson_schedule


class Clock:
    """Time that passes when it is slept or spent."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def now(self) -> float:
        return self.time_s

    def pass_by(self, seconds: float) -> None:
        self.time_s += seconds


@given(st.floats(0.5, 500), st.floats(0.5, 20), st.integers(0, 2**31))
def test_a_schedule_has_the_rate_it_promises(rate: float, duration: float, seed: int) -> None:
    schedule = poisson_schedule(rate, duration, seed)
    assert len(schedule) == round(rate * duration)
    assert (np.diff(schedule) >= 0).all()
    assert ((schedule >= 0) & (schedule < duration)).all()


def test_gaps_are_exponential() -> None:
    gaps = np.diff(poisson_schedule(1000, 100, seed=1))
    # An exponential's standard deviation is its mean; evenly spaced arrivals would have 0.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert (poisson_schedule(10, 5, seed=3) == poisson_schedule(10, 5, seed=3)).all()
    assert (poisson_schedule(10, 5, seed=3) != poisson_schedule(10, 5, seed=4)).any()


def test_requests_leave_when_they_are_due() -> None:
    clock, sent = Clock(), []

    pace(
        [0.0, 0.5, 0.5, 2.0], clock.now, clock.pass_by, lambda due: sent.append((due, clock.now()))
    )

    assert sent == [(100.0, 100.0), (100.5, 100.5), (100.5, 100.5), (102.0, 102.0)]


def test_a_late_request_is_sent_at_once_and_keeps_its_due_time() -> None:
    clock, sent = Clock(), []

    def send(due: float) -> None:
        sent.append((due, clock.now()))
        if len(sent) == 1:
            clock.pass_by(3.0)  # a stall, of the generator or the machine

    pace([0.0, 1.0, 2.0, 5.0], clock.now, clock.pass_by, send)

    assert sent == [(100.0, 100.0), (101.0, 103.0), (102.0, 103.0), (105.0, 105.0)]


@given(st.lists(st.floats(0, 50), max_size=40), st.lists(st.floats(0, 3), max_size=40))
def test_no_request_is_left_out_or_early(offsets: list[float], stalls: list[float]) -> None:
    clock, sent, pending = Clock(), [], list(stalls)

    def send(due: float) -> None:
        sent.append((due, clock.now()))
        clock.pass_by(pending.pop() if pending else 0.0)

    pace(sorted(offsets), clock.now, clock.pass_by, send)

    assert [due for due, _ in sent] == [100.0 + offset for offset in sorted(offsets)]
    assert all(at >= due - 1e-9 for due, at in sent)
