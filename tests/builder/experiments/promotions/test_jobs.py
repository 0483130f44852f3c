"""A whole run on the CPU: trained, packed, cut, taken up again, reported."""

import json
import multiprocessing
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.experiments.promotions.evaluation import evaluate, visits_of
from builder.experiments.promotions.jobs import Plan, _work, run
from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.report import write_report
from builder.experiments.promotions.rows import ROWS
from builder.experiments.promotions.task import Task
from builder.experiments.promotions.training import Budget, Setting, Trainer

BUDGET = Budget(
    batch=16,
    every=20,
    patience=2,
    most=60,
    trial=20,
    rates=(0.05,),
    dropouts=(0.1, 0.3),
    validation_visits=40,
)


def _plan(folder: Path, out: Path) -> Plan:
    labels = ("counts", "none", "cluster-64")
    return Plan(
        prepared=folder,
        out=out / "runs",
        device="cpu",
        minutes=5.0,
        workers=2,
        only=labels,
        seeds=1,
        pack=out / "runs.tar",
        budget=BUDGET,
        test_visits=80,
        length=64,
    )


@pytest.fixture(scope="module")
def task_folder(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    prepared.save(folder)
    return folder


@pytest.fixture(scope="module")
def finished(task_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan that was run to its end without a break."""
    plan = _plan(task_folder, tmp_path_factory.mktemp("finished"))
    assert run(plan, lambda line: None) == 3
    return plan


@pytest.fixture
def plan(task_folder: Path, tmp_path: Path) -> Plan:
    return _plan(task_folder, tmp_path)


def _results(plan: Plan) -> dict[str, dict[str, Any]]:
    return {
        f"{path.parent.name}/{path.stem}": json.loads(path.read_text())
        for path in plan.out.glob("*/[0-9]*.json")
    }


def test_a_run_trains_every_row_and_packs_the_results(finished: Plan, prepared: Prepared):
    results = _results(finished)
    assert set(results) == {"counts/0", "none/0", "cluster-64/0"}
    for result in results.values():
        assert 0.4 < result["test"]["auc"] < 1
        assert result["test"]["log_loss"] > 0
        assert result["training"]["curve"][0]["step"] == 20
        vectors = np.load(finished.out / result["label"] / "0.npz")
        assert np.nanmean(vectors["gauc"]) == pytest.approx(result["test"]["gauc"], abs=1e-5)
        assert vectors["visit"].tolist() == visits_of(prepared, "test", 80).tolist()
    assert finished.pack is not None
    with tarfile.open(finished.pack) as tar:
        assert {f"{name}.json" for name in results} <= set(tar.getnames())
    # Each household buys two types of product, which only its history tells.
    assert results["counts/0"]["test"]["gauc"] > results["none/0"]["test"]["gauc"] + 0.05


def test_a_report_shows_finished_rows_and_names_the_others(
    finished: Plan, prepared: Prepared, tmp_path: Path
):
    written = write_report(finished.out, prepared, tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "| counts only | 1 |" in table
    assert "- kernel attention, all events (`kernel`): not started" in table
    assert all(path.stat().st_size > 0 for path in written)


def test_a_killed_run_continues_to_the_results_of_an_unbroken_one(plan: Plan, finished: Plan):
    worker = multiprocessing.get_context("spawn").Process(
        target=_work, args=(plan, plan.jobs(), time.monotonic() + 300)
    )
    worker.start()
    while not _results(plan):  # killed in the middle of the second row
        time.sleep(0.05)
        assert worker.is_alive()
    worker.kill()
    worker.join()
    before = {name: (plan.out / f"{name}.json").stat().st_mtime_ns for name in _results(plan)}
    assert len(before) < 3
    run(plan, lambda line: None)
    continued, unbroken = _results(plan), _results(finished)
    assert set(continued) == set(unbroken)
    for name, result in continued.items():
        assert result["test"] == unbroken[name]["test"], name
    for name, written_ns in before.items():
        assert (plan.out / f"{name}.json").stat().st_mtime_ns == written_ns


def test_time_that_is_up_keeps_no_half_training(plan: Plan):
    late = replace(plan, minutes=0.0, workers=1, only=("none",))
    assert run(late, lambda line: None) == 0


def test_the_best_weights_are_kept(prepared: Prepared):
    task = Task(prepared, torch.device("cpu"), 64)
    trainer = Trainer("counts", prepared, task, replace(BUDGET, most=200, patience=3))
    trained = trainer.train(0, Setting(0.5, 0.0), time.monotonic() + 300)
    best = max(trained.curve, key=lambda point: point["gauc"])
    assert trained.best_step == best["step"]
    from builder.experiments.promotions.evaluation import validate

    assert validate(trainer.mean, trainer.slates)["gauc"] == pytest.approx(best["gauc"], abs=1e-6)


def test_a_group_s_size_does_not_change_the_metrics(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    task = Task(prepared, torch.device("cpu"), 64)
    trainer = Trainer("kernel", prepared, task, BUDGET)
    visits = visits_of(prepared, "test", 30)
    one, vectors = evaluate(trainer.network, task, visits)
    monkeypatch.setattr("builder.experiments.promotions.evaluation.CANDIDATES_AT_ONCE", 100)
    other, again = evaluate(trainer.network, task, visits)
    assert one == pytest.approx(other, rel=1e-4)
    for name, values in vectors.items():
        assert np.allclose(values, again[name], rtol=1e-3, atol=1e-5, equal_nan=True)


def test_an_unknown_label_is_named(plan: Plan):
    with pytest.raises(ValueError, match="only: got 'dinn', expected one of kernel"):
        run(replace(plan, only=("dinn",)), lambda line: None)


def test_every_seed_of_every_row_is_one_job(plan: Plan):
    jobs = replace(plan, only=(), seeds=0).jobs()
    pairs = [(label, seed) for label, seeds in jobs for seed in seeds]
    assert len(pairs) == len(set(pairs)) == sum(row.seeds for row in ROWS.values())
