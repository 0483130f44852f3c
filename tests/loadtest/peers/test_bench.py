import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtest.peers import bench
from loadtest.peers.bench import Effort, Figures, read_figures, run_rounds
from loadtest.peers.cells import CELLS
from loadtest.peers.environments import PeerError
from loadtest.peers.queries import Query
from loadtest.peers.servers import ABSORBS, PEERS, Server
from tests.loadtest.peers.rows import figures

PROBE = Query("1", ["i"], [])
SERVERS = (ABSORBS[0], PEERS[0], PEERS[1])
ROUND = 100.0
"""Seconds of one round of the clock below."""


class Bench:
    """Stands for processes: every row has figures, the server `broken` does not start."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.now_s = 0.0

    @contextmanager
    def running(self, server: Server, workers: int, probe: Query) -> Iterator[int]:
        if server.name == "mlserver":
            raise PeerError("start: it is broken")
        self.order.append(server.name)
        self.now_s += ROUND if server is SERVERS[0] else 0
        yield 1

    def figures(self, module: str, plan: dict[str, object]) -> Figures:
        if "row" in plan:
            self.order.append(str(plan["row"]))
        return figures(1.0, 10.0)

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    fake = Bench()
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    monkeypatch.setattr(bench, "running", fake.running)
    monkeypatch.setattr(bench, "_figures", fake.figures)
    monkeypatch.setattr(bench, "_checked_engine", lambda server, port: "native")
    monkeypatch.setattr(bench, "monotonic", fake.monotonic)
    return fake


def effort(rounds: int, limit_s: float = math.inf) -> Effort:
    return Effort(rounds, seconds=0, warm_up_s=0, trial_s=0, limit_s=limit_s)


def test_rows_are_measured_in_rotated_rounds_and_failures_are_kept(faked: Bench) -> None:
    problems = run_rounds(SERVERS, effort(2), PROBE, lambda text: None)
    assert problems == {"mlserver": "start: it is broken"}
    rows = ["bare", "bare-onnxruntime", "bare-native", "absorb", "fastapi"]
    assert faked.order == [*rows, *rows[1:], rows[0]]
    assert len(read_figures("absorb-v2")) == 2
    assert set(read_figures("bare")[0]) == {str(cell) for cell in CELLS}
    assert bench.engine_of(SERVERS[0]) == "native"


def test_what_is_measured_is_not_measured_again(faked: Bench) -> None:
    run_rounds(SERVERS, effort(1), PROBE, lambda text: None)
    faked.order.clear()
    run_rounds(SERVERS, effort(1), PROBE, lambda text: None)
    assert faked.order == []


def test_no_round_begins_that_would_end_after_the_limit(faked: Bench) -> None:
    lines: list[str] = []
    run_rounds(SERVERS[:1], effort(5, limit_s=2.5 * ROUND), PROBE, lines.append)
    assert len(read_figures("absorb")) == 2
    assert lines[-1] == "2 rounds took 200 s: no time for another"


def test_without_a_trial_the_largest_number_of_workers_is_taken(faked: Bench) -> None:
    assert bench.chosen_workers(SERVERS[0]) == (2, {})
