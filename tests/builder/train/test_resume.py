"""A training that is killed in the middle and started again ends with the weights of one that was not."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from builder.checkpoint import Checkpoint
from builder.ingest.events import Events
from builder.ingest.run import ingest
from builder.recipe.models import ModelChoice
from builder.recipe.recipe import Recipe
from builder.train.train import train
from tests.builds import small_recipe

SMALL = {"rank": 8, "slots": "hash", "mlp": [16, 8], "item_dim": 8, "hidden": 8, "heads": 2}
STEPS, EVERY = 60, 5
CHILD = """
import sys
from pathlib import Path
from builder.ingest.events import Events
from builder.train.train import train
from tests.builder.train.test_resume import recipe_of
events, state, result, optimizer = sys.argv[1:]
checkpoint = train(Events.load(Path(events)), recipe_of(optimizer), folder=Path(state))
checkpoint.save(Path(result))
"""


def recipe_of(optimizer: str, **rule) -> Recipe:
    """With dropout and negatives, whose random numbers must go on as they would have."""
    recipe = small_recipe()
    model = ModelChoice("lrea", {**SMALL, "dropout": 0.3})
    rule = {"steps": STEPS, "validate_every": EVERY, "patience": 0, "slates_per_step": 16, **rule}
    rule |= {"optimizer": optimizer, "learning_rate": 0.01, "threads": 1}
    return replace(recipe, model=model, train=replace(recipe.train, **rule))


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> tuple[Events, Path]:
    folder = tmp_path_factory.mktemp("log") / "events"
    log = ingest(small_recipe())
    log.save(folder)
    return log, folder


def start(*arguments: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)])


@pytest.mark.parametrize("optimizer", ["adagrad", "adam"])
def test_killed_and_resumed_gives_the_same_weights(events, tmp_path: Path, optimizer: str) -> None:
    log, place = events
    state = tmp_path / "state"
    child = start(place, state, tmp_path / "result", optimizer)
    give_up_s = time.monotonic() + 60
    while not (state / "training.json").exists() and time.monotonic() < give_up_s:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    done = json.loads((state / "training.json").read_text())["curve"][-1]["step"]
    assert 0 < done < STEPS

    assert start(place, state, tmp_path / "result", optimizer).wait() == 0

    resumed = Checkpoint.load(tmp_path / "result")
    whole = train(log, recipe_of(optimizer))
    for name, weight in whole.weights.items():
        assert torch.equal(weight, resumed.weights[name]), name
    curves = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in checkpoint.history]
        for checkpoint in (whole, resumed)
    ]
    assert curves[0] == curves[1]
    assert not list(state.iterdir())  # nothing is left of a finished training


def test_a_training_that_ran_out_of_time_goes_on(events, tmp_path: Path) -> None:
    log, _ = events
    recipe = recipe_of("adagrad")

    first = train(log, recipe, folder=tmp_path, deadline_s=time.monotonic())
    assert (first.ended, first.history[-1]["step"]) == ("time", EVERY)

    second = train(log, recipe, folder=tmp_path)
    assert (second.ended, second.history[-1]["step"]) == ("max_steps", STEPS)
    assert second.history[0] == first.history[0]


def test_the_state_of_another_recipe_is_not_used(events, tmp_path: Path) -> None:
    log, _ = events
    train(log, recipe_of("adagrad"), folder=tmp_path, deadline_s=time.monotonic())

    other = recipe_of("adagrad", steps=2 * EVERY, slates_per_step=8)
    resumed, fresh = train(log, other, folder=tmp_path), train(log, other)

    assert all(torch.equal(fresh.weights[name], value) for name, value in resumed.weights.items())
