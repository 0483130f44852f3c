"""`absorb bench-fresh` measures a real service and a real worker, and says what it cannot measure."""

import json
from pathlib import Path

from typer.testing import CliRunner

from loadtest.fresh.__main__ import app
from loadtest.fresh.latency import Freshness
from loadtest.fresh.report import is_met
from tests.cases import Case
from tests.service.toy import Toy


def test_events_change_scores_and_every_folder_is_measured(tmp_path: Path):
    artifact = Toy().save(tmp_path / "artifacts")
    rates = ["--events", "20", "--scores", "2", "--seconds", "2", "--users", "40"]
    folds = ["--fold-seconds", "5", "--fold-events", "60"]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [str(artifact.path), "--out", str(out), *rates, *folds])
    assert result.exit_code in {0, 1}, result.output
    found = json.loads((out / "fresh.json").read_text())
    assert len(found["fresh"]["seconds"]) == 10
    assert (found["fresh"]["lost"], found["fresh"]["failed"]) == (0, 0)
    assert {one["folder"]: one["events"] for one in found["workers"]} == {"re-encode": 60}
    assert "| event to changed score, ms | 10 |" in (out / "fresh.md").read_text()
    assert (out / "fresh.png").stat().st_size > 1000


def test_folders_alone_need_no_service(tmp_path: Path, builds):
    artifact = builds.artifact(Case("linear_attention", "default"))
    folds = ["--folders-only", "--users", "40", "--fold-seconds", "5", "--fold-events", "60"]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [str(artifact.path), "--out", str(out), *folds])
    assert result.exit_code == 0, result.output
    found = json.loads((out / "fresh.json").read_text())
    assert found["fresh"] is None
    folded = {one["folder"]: one["events"] for one in found["workers"]}
    assert folded == {"re-encode": 60, "additive": 60}
    assert "changed score" not in (out / "fresh.md").read_text()


def test_it_says_that_there_are_too_few_users(tmp_path: Path):
    artifact = Toy().save(tmp_path / "artifacts")
    result = CliRunner().invoke(app, [str(artifact.path), "--users", "10", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "users: got 10" in result.output


def test_a_lost_event_or_a_slow_one_misses_the_targets():
    fast = Freshness([0.01] * 99, 0, [], [], 1.0)
    assert is_met(fast)
    assert not is_met(Freshness([0.01] * 99, 1, [], [], 1.0))
    assert not is_met(Freshness([0.11] * 99, 0, [], [], 1.0))
    assert not is_met(Freshness([*[0.01] * 90, *[0.6] * 9], 0, [], [], 1.0))
    assert not is_met(Freshness([], 0, [], [], 1.0))
