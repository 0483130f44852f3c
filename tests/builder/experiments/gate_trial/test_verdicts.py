"""Every bad model that a trial plants is refused, by the check that should see it, and every good one passes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from builder.experiments.gate_trial.run import Trial
from builder.experiments.gate_trial.text import write_trial
from tests.builder.gate.trainings import tiny_recipe

SEES = {
    "labels shuffled": {"log loss"},
    "all labels shuffled": {"labels as before"},
    "field leaks, training only": {"log loss", "GAUC", "rankings"},
    "field leaks": {"leak audit", "plausible log loss", "plausible GAUC"},
    "few steps": {"log loss", "GAUC"},
    "rows off by one": {"log loss"},
    "vocabulary of another week": {"log loss"},
    "odds doubled": {"log loss", "calibration"},
    "odds halved": {"log loss", "calibration"},
    "ages 0": {"finite scores"},
    "histories empty": {"log loss", "GAUC", "calibration", "rankings"},
}
"""Bad model -> checks without which `tiny` would not see it, or would see it with less."""
UNSEEN = "ages lost"
"""`tiny` hardly reads ages: what it loses is within its margins."""
GOOD = ("same again", "seed 1", "next night")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory):
    threads = torch.get_num_threads()
    yield Trial(tiny_recipe(), tmp_path_factory.mktemp("trial"), seeds=2)
    torch.set_num_threads(threads)


def test_a_log_without_pools_has_all_other_cases(trial: Trial) -> None:
    assert {case.name for case in trial.cases()} == {*SEES, *GOOD, UNSEEN}


@pytest.mark.parametrize("name", [*GOOD, *SEES])
def test_bad_models_are_refused_and_good_ones_pass(trial: Trial, name: str) -> None:
    verdict = trial.verdict(next(case for case in trial.cases() if case.name == name))

    assert verdict["verdict"] == verdict["expected"]
    assert verdict["exit_code"] == (0 if name in GOOD else 3)
    assert set(verdict["failed"]) >= SEES.get(name, set())
    assert bool(verdict["failed"]) == (name in SEES)


def test_a_finished_case_is_read(trial: Trial, tmp_path: Path) -> None:
    case = next(case for case in trial.cases() if case.name == "same again")
    own = replace(trial, root=tmp_path)
    own.place(case).parent.mkdir(parents=True)
    own.place(case).write_text(json.dumps({"case": "kept"}))

    assert own.verdict(case) == {"case": "kept"}
    assert not (tmp_path / "trainings").exists()


def test_the_page_lists_verdicts_and_what_is_missing(trial: Trial, tmp_path: Path) -> None:
    case = next(case for case in trial.cases() if case.name == "same again")
    own = replace(trial, root=tmp_path / "trial")
    own.place(case).parent.mkdir(parents=True)
    kept = {**trial.verdict(case), "verdict": "refused"}
    own.place(case).write_text(json.dumps(kept))

    page, numbers = write_trial(own, [], 64, "absorb gate-trial", tmp_path)

    assert "0 of 1 verdicts are right; wrong: same again." in page.read_text()
    assert "Not run: seed 1, next night, labels shuffled" in page.read_text()
    assert json.loads(numbers.read_text())["verdicts"] == [kept]
