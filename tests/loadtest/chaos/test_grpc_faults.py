"""The gRPC scenario on a real service: it breaks no rule, and it sees calls that stay open."""

import asyncio
from pathlib import Path

import pytest

from loadtest.chaos.faults import client as client_faults
from loadtest.chaos.faults import grpc as grpc_faults
from loadtest.chaos.fixtures import make_fixtures
from loadtest.chaos.runner import run_scenario
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.verdict import Figures, conclude
from tests.service.toy import Toy

(SCENARIO,) = grpc_faults.GRPC_FAULTS


def figures_of(folder: Path, **settings: str) -> Figures:
    toys = [Toy(seed, candidate_names=("display", "mailer")) for seed in (1, 2)]
    fixtures = make_fixtures([toy.save(folder / "artifacts") for toy in toys])
    scenario = Scenario(
        SCENARIO.name, "", SCENARIO.run_round, settings={**SCENARIO.settings, **settings}
    )
    run = run_scenario(scenario, fixtures, folder / "run", is_quick=True, settings={})
    return conclude(asyncio.run(run))


def test_half_open_calls_and_silent_connections_break_no_rule(tmp_path: Path) -> None:
    figures = figures_of(tmp_path)
    assert figures.broken == []
    assert (figures.lost, figures.wrong, figures.faults) == (0, 0, 1)


def test_calls_that_stay_open_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_faults, "ANSWER_LIMIT_S", 1.0)
    monkeypatch.setattr(client_faults, "FREED_LIMIT_S", 1.0)
    broken = " ".join(figures_of(tmp_path, ABSORB_BODY_TIMEOUT_S="60").broken)
    assert "a call without its message: got codes [None" in broken
    assert "descriptors: got" in broken  # before the 10 s of a silent connection
