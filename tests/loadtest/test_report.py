import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.__main__ import conclude
from loadtest.report import Samples, judge, percentiles, summarise
from loadtest.scenarios import SCENARIOS, Scenario

CLOSED = Scenario("closed", duration_s=1, p99_ms=50, users=2)
OPEN = Scenario("open", duration_s=1, p99_ms=50, rate_per_s=100)


def samples(latency_ms: list[float], failures: dict[str, int] | None = None) -> Samples:
    latency = np.array(latency_ms, np.float64)
    return Samples(latency, np.linspace(0, 1, len(latency)), failures or {}, elapsed_s=1.0)


def test_percentiles_are_nearest_ranks() -> None:
    got = percentiles(np.arange(1, 1001, dtype=np.float64))
    expected = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99.9": 999, "max": 1000}
    assert {name: got[name] for name in expected} == expected
    assert got["mean"] == 500.5


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_every_percentile_is_a_latency_that_was_measured(latency_ms: list[float]) -> None:
    got = percentiles(np.array(latency_ms))
    ranked = [value for name, value in got.items() if name.startswith("p")]
    assert set(ranked) <= set(latency_ms)
    assert ranked == sorted(ranked)
    assert got["max"] == max(latency_ms)


def test_a_run_within_its_limit_passes() -> None:
    assert judge(CLOSED, samples([50.0] * 100)) == []
    assert judge(OPEN, samples([1.0] * 99 + [5000.0])) == []  # one in a hundred may be slow


def test_a_slow_run_fails_and_says_by_how_much() -> None:
    assert judge(OPEN, samples([1.0] * 98 + [80.0] * 2)) == ["p99 is 80.0 ms, the limit is 50 ms"]


def test_a_single_failed_request_fails_the_run() -> None:
    problems = judge(CLOSED, samples([1.0] * 100, {"503 Service Unavailable": 1}))
    assert problems == ["1 requests failed: 503 Service Unavailable"]


def test_an_open_loop_that_did_not_answer_everything_fails() -> None:
    assert judge(OPEN, samples([1.0] * 97)) == ["97 requests were answered, 100 were due"]


def test_a_run_without_any_answer_fails() -> None:
    assert judge(CLOSED, samples([])) == ["no request was answered"]
    assert summarise(CLOSED, samples([]))["is_met"] is False


def test_a_scenario_is_either_closed_or_open() -> None:
    for users, rate_per_s in ((1, 1.0), (None, None)):
        with pytest.raises(ValueError, match="expected either users or rate_per_s"):
            Scenario("x", duration_s=1, p99_ms=1, users=users, rate_per_s=rate_per_s)


def test_both_loops_are_among_the_scenarios() -> None:
    assert {scenario.rate_per_s is None for scenario in SCENARIOS} == {True, False}
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.parametrize(("latency_ms", "code"), [(10.0, 0), (60.0, 1)])
def test_the_exit_code_follows_the_limits(
    latency_ms: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [(OPEN, samples([latency_ms] * 100)), (CLOSED, samples([10.0] * 30))]

    assert conclude(runs, tmp_path, {"Command": "`absorb load`"}) == code

    written = json.loads((tmp_path / "open.json").read_text())
    assert written["latency_ms"]["p99"] == latency_ms
    assert written["is_met"] == (code == 0)
    assert json.loads((tmp_path / "closed.json").read_text())["answered_per_s"] == 30
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
    assert "open" in capsys.readouterr().out
    page = (tmp_path / "load.md").read_text()
    assert "- Command: `absorb load`" in page
    assert f"| {latency_ms:.1f} | {latency_ms:.1f} |" in page
