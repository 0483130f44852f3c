"""Training: the same seed gives the same model, the best validated weights are kept, and every step is taken."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.checkpoint import Checkpoint
from builder.dataset.batches import find_slates
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.predict import predict
from builder.ingest.events import Events
from builder.ingest.run import ingest
from builder.recipe.models import ModelChoice
from builder.recipe.recipe import Recipe
from builder.train.train import train
from builder.train.validation import Validation
from models.registry import build_model
from tests.builds import small_recipe

SMALL = {"rank": 8, "slots": "hash", "mlp": [16, 8], "item_dim": 8, "hidden": 8, "heads": 2}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def events() -> Events:
    return ingest(small_recipe())


def recipe_of(model: str = "lrea", config: dict[str, Any] | None = None, **rule) -> Recipe:
    recipe = small_recipe()
    choice = ModelChoice(model, SMALL if config is None else config)
    rule = {"steps": 6, "validate_every": 3, "slates_per_step": 16, **rule}
    return replace(recipe, model=choice, train=replace(recipe.train, **rule))


def assert_equal(one: Checkpoint, other: Checkpoint) -> None:
    assert one.weights.keys() == other.weights.keys()
    for name, weight in one.weights.items():
        assert torch.equal(weight, other.weights[name]), name


def test_one_seed_gives_the_same_weights(events) -> None:
    assert_equal(train(events, recipe_of(seed=3)), train(events, recipe_of(seed=3)))


def test_another_seed_gives_other_weights(events) -> None:
    one, other = train(events, recipe_of(seed=3)), train(events, recipe_of(seed=4))

    assert not torch.equal(
        one.weights["frame.head.out.weight"], other.weights["frame.head.out.weight"]
    )


def test_the_best_validated_weights_are_kept(events) -> None:
    """A rate that is far too high makes the last weights worse than earlier ones."""
    recipe = recipe_of(steps=40, validate_every=2, learning_rate=3.0)

    checkpoint = train(events, recipe)

    curve = [line["gauc"] for line in checkpoint.history]
    assert checkpoint.best["gauc"] == max(curve) > curve[-1]
    again = Validation(events, recipe, torch.device("cpu")).run(checkpoint.build())
    assert again == {name: checkpoint.best[name] for name in again}


def test_every_step_is_taken_and_reported_and_the_last_is_validated(events) -> None:
    calls = []

    checkpoint = train(
        events,
        recipe_of(steps=7, validate_every=3),
        lambda done, total, note="": calls.append((done, total, bool(note))),
    )

    assert [(done, total) for done, total, _ in calls] == [(step, 7) for step in range(1, 8)]
    assert [noted for *_, noted in calls] == [False, False] + [True] * 5
    assert [line["step"] for line in checkpoint.history] == [3, 6, 7]


def test_steps_go_on_into_the_next_epoch(events) -> None:
    recipe = recipe_of(steps=3, slates_per_step=10_000)
    assert len(part_slates(events, recipe, "train")) < 10_000

    assert train(events, recipe).history[-1]["step"] == 3


def test_the_loss_falls(events) -> None:
    recipe = recipe_of(steps=60, validate_every=10, slates_per_step=48, learning_rate=0.05)

    curve = [line["train_loss"] for line in train(events, recipe).history]

    assert curve[-1] < curve[0] - 0.02


@pytest.mark.parametrize("optimizer", ["adagrad", "adam"])
def test_every_weight_moves(events, optimizer) -> None:
    recipe = recipe_of(optimizer=optimizer, slates_per_step=64, seed=1)
    fields = torch.from_numpy(np.array(events.item_fields))
    model = build_model("lrea", events.schema, fields, SMALL, seed=1)
    before = model.state_dict()

    after = train(events, recipe).weights

    still = {name for name, weight in after.items() if torch.equal(weight, before[name])}
    assert still == set(before) - {name for name, _ in model.named_parameters()}


def test_a_penalty_is_added_to_the_loss(events) -> None:
    plain = {**SMALL, "slots": "position"}

    without = train(events, recipe_of(config=plain))
    with_penalty = train(events, recipe_of(config={**plain, "nonneg": 100.0}))

    name = "readers.0.w_comp"
    assert not torch.equal(without.weights[name], with_penalty.weights[name])
    assert without.history[0]["train_loss"] < 2
    assert with_penalty.history[0]["train_loss"] < 2  # the click loss alone


def test_a_checkpoint_survives_the_disk(events, tmp_path: Path) -> None:
    checkpoint = train(events, recipe_of())

    checkpoint.save(tmp_path / "checkpoint")
    loaded = Checkpoint.load(tmp_path / "checkpoint")

    assert_equal(checkpoint, loaded)
    assert (loaded.model, loaded.schema) == ("lrea", events.schema)
    assert loaded.history == checkpoint.history
    assert loaded.config == json.loads(json.dumps(checkpoint.config))
    assert loaded.config["dropout"] == 0.0  # defaults are kept, too
    slates = part_slates(events, recipe_of(), "test")
    source = batch_source(events, recipe_of(), "test")
    one, other = (predict(c.build(), source, slates) for c in (checkpoint, loaded))
    assert np.array_equal(one.probability, other.probability)


def test_targets_are_of_the_training_period_only(events) -> None:
    recipe = recipe_of()

    slates = part_slates(events, recipe, "train")

    ts_s = events.ts_s[slates.begin]
    split = events.split
    assert split.train_from_s <= ts_s.min()
    assert ts_s.max() < split.validate_from_s
    everything = find_slates(events, "train", min_events=0, max_events=1)
    assert len(slates) < len(everything)
