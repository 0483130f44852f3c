from loadtest.chaos.outcome import Outcome
from loadtest.chaos.swaps import p99_by_part, slower


def test_a_growing_latency_is_reported() -> None:
    def took(ms: float, at: int) -> Outcome:
        return Outcome(float(at), at + ms / 1000, 200)

    flat = p99_by_part([took(5, at) for at in range(100)])
    grown = p99_by_part([took(5 + at, at) for at in range(100)])
    assert slower(flat) == ""
    assert "p99 went from" in slower(grown)
