"""The whole load test: users from a real cache, a real service process, both loops, the verdict."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import __main__ as program
from loadtest.scenarios import Scenario
from models.contract.embedded_cache import start_server, stop_server
from tests.loadtest.command import run
from tests.service.toy import Toy
from tests.service.world import HISTORIES, World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    world = World(f"unix://{start_server(folder)}", tmp_path / "artifacts")
    monkeypatch.setenv("ABSORB_CACHE_URL", world.url)
    monkeypatch.setenv("ABSORB_ARTIFACT_DIR", str(world.artifacts))
    monkeypatch.setenv("PYTHONPATH", str(program.ROOT))
    yield world
    stop_server(folder)
    shutil.rmtree(folder)


def test_both_loops_run_against_what_the_cache_holds(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish(Toy())
    # An hour: no machine is too slow for this one. One microsecond: none is fast enough.
    scenarios = (
        Scenario("open", duration_s=1, p99_ms=3_600_000, rate_per_s=20),
        Scenario("closed", duration_s=1, p99_ms=0.001, users=1),
    )
    monkeypatch.setattr(program, "SCENARIOS", scenarios)

    code = run(program.app, "--out", tmp_path)

    opened, closed = (json.loads((tmp_path / f"{s.name}.json").read_text()) for s in scenarios)
    assert (opened["requests"], opened["problems"]) == (20, [])
    assert closed["failures"] == {}
    assert not closed["is_met"]
    assert code == 1
    sample = json.loads((tmp_path / "sample.json").read_text())
    assert sorted(sample["users"]) == sorted(HISTORIES)
    assert sample["context"] == {"hour": ["day", "night"], "device": ["web", "app"]}


def test_an_empty_cache_is_code_2_and_says_what_to_run(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(program.app, "--out", tmp_path) == 2

    assert "absorb build" in capsys.readouterr().err
