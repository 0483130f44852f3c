"""A warm start goes on as if it had never stopped, moves rows by raw ids, and refuses what it cannot go on from."""

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.checkpoint import Checkpoint
from builder.dataset.batches import find_slates
from builder.dataset.parts import batch_source
from builder.ingest.events import Events
from builder.ingest.run import ingest
from builder.recipe.models import ModelChoice
from builder.recipe.recipe import Recipe
from builder.train.clipping import Clipping
from builder.train.optimiser import RunningMean, make_optimizer
from builder.train.train import train
from builder.train.warm_start import (
    WarmStart,
    WarmStartError,
    _nearest,
    field_tables,
    optimiser_names,
)
from models.base import CtrModel
from models.contract.field_reader import NumberReader
from models.contract.schema import FIRST_KNOWN, Field
from models.registry import MODELS, build_model
from tests.builds import small_recipe, with_profiles

SMALL = {"rank": 8, "slots": "items", "mlp": [16, 8], "item_dim": 8, "heads": 2, "dropout": 0.1}


@pytest.fixture(scope="module")
def events() -> Events:
    return with_profiles(ingest(small_recipe()))


def recipe_of(model: str = "lrea", config: dict[str, Any] | None = None, **rule: Any) -> Recipe:
    recipe = small_recipe()
    rule = {"steps": 20, "validate_every": 20, "slates_per_step": 16, "patience": 0, **rule}
    rule = {"warm_up": 1, "learning_rate": 0.01, **rule}
    choice = ModelChoice(model, SMALL if config is None else config)
    return replace(recipe, model=choice, train=replace(recipe.train, **rule))


def left(checkpoint: Checkpoint) -> WarmStart:
    assert checkpoint.left is not None
    return checkpoint.left


def seen(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in curve]


@pytest.mark.parametrize("optimizer", ["adagrad", "adam"])
@pytest.mark.parametrize("running_mean", [0.0, 0.9])
def test_goes_on_as_if_it_had_not_stopped(
    events, tmp_path: Path, optimizer: str, running_mean: float
) -> None:
    rule: dict[str, Any] = {"optimizer": optimizer, "running_mean": running_mean}
    whole = train(events, recipe_of(steps=60, **rule))
    train(events, recipe_of(steps=20, **rule)).save(tmp_path)

    recipe = recipe_of(steps=20, warm_start=40, **rule)
    second = train(events, recipe, start=WarmStart.load(tmp_path))

    assert [line["step"] for line in second.history] == [40, 60]
    assert seen(whole.history[1:]) == seen(second.history)
    for name, weight in whole.weights.items():
        if whole.best_step > 20:
            assert torch.equal(weight, second.weights[name]), name


def test_an_interrupted_warm_start_goes_on(events, tmp_path: Path) -> None:
    start = left(train(events, recipe_of()))
    recipe = recipe_of(warm_start=40)
    whole = train(events, recipe, start=start)
    part = train(events, recipe, folder=tmp_path, start=start, deadline_s=time.monotonic())
    assert [line["step"] for line in part.history] == [40]

    rest = train(events, recipe, folder=tmp_path, start=start)

    assert seen(rest.history) == seen(whole.history)
    assert left(rest).digest() == left(whole).digest()


def test_the_state_of_another_start_is_not_used(events, tmp_path: Path) -> None:
    one, other = (left(train(events, recipe_of(seed=seed))) for seed in (0, 1))
    recipe = recipe_of(warm_start=40)
    train(events, recipe, folder=tmp_path, start=one, deadline_s=time.monotonic())

    after = train(events, recipe, folder=tmp_path, start=other)

    assert seen(after.history) == seen(train(events, recipe, start=other).history)


def permuted(events: Events, rng: np.random.Generator) -> Events:
    """The same log with other ids: of items' fields, profiles, contexts."""
    fields, values = events.item_fields.copy(), {}
    for column, known in enumerate(events.schema.item_fields):
        order = rng.permutation(known.size - FIRST_KNOWN)
        values[known.name] = [events.item_values[known.name][old] for old in order]
        fields[:, column] = new_ids(order)[fields[:, column]]
    context, of_context = moved(events.context, events.vocabulary.context, rng)
    profile, of_user = moved(events.user_fields, events.vocabulary.user, rng)
    return replace(
        events,
        item_fields=fields,
        item_values=values,
        context=context,
        user_fields=profile,
        vocabulary=replace(events.vocabulary, context=of_context, user=of_user),
    )


def moved(ids, values, rng) -> tuple[Any, dict[str, list[str]]]:
    ids, found = np.array(ids), {}
    for column, (name, known) in enumerate(values.items()):
        order = rng.permutation(len(known))
        found[name] = [known[old] for old in order]
        ids[:, column] = new_ids(order)[ids[:, column]]
    return ids, found


def new_ids(order: np.ndarray) -> np.ndarray:
    """Old id -> new id."""
    ids = np.arange(len(order) + FIRST_KNOWN, dtype=np.int32)
    ids[FIRST_KNOWN + order] = np.arange(FIRST_KNOWN, FIRST_KNOWN + len(order))
    return ids


CASES = {name: SMALL if name == "lrea" else {} for name in MODELS}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_another_order_of_the_vocabulary_gives_the_same_scores(events, name: str) -> None:
    recipe = recipe_of(name, CASES[name], steps=2, validate_every=2, slates_per_step=4)
    before = train(events, recipe)
    other = permuted(events, np.random.default_rng(3))

    after = applied(left(before), other, recipe)

    slates = find_slates(events, "test", min_events=4, max_events=8).at(np.arange(8))
    scores = []
    for log, model in ((events, before.build()), (other, after)):
        source = batch_source(log, recipe, "validate")
        batch, _ = source.batch(slates, np.arange(8), np.random.default_rng(0))
        with torch.inference_mode():
            scores.append(model.eval()(batch.user, batch.context, batch.slate)[batch.mask])
    assert scores[0].std() > 0
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-5, atol=1e-6)


def applied(start: WarmStart, events: Events, recipe: Recipe) -> CtrModel:
    """A model of another seed, set to `start`: the weights that were validated."""
    model = build_model(
        recipe.model.name,
        events.schema,
        torch.from_numpy(np.array(events.item_fields)),
        recipe.model.config,
        seed=9,
    )
    mean = RunningMean(model, 0.9)
    optimizer = make_optimizer(model, recipe.train)
    start.apply(model, mean, optimizer, Clipping(model.parameters(), 2.0), events)
    return mean.ready()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_table_of_a_vocabulary_is_known(events, name: str) -> None:
    """With one value more in each field, no other weights change their shapes."""
    schema = events.schema
    kinds = ("item_fields", "user_fields", "context_fields", "candidate_fields")
    given = {"candidate_fields": (Field("shelf", 5),)}
    schema = replace(schema, **given)
    larger = {
        kind: tuple(Field(one.name, one.size + 1) for one in getattr(schema, kind))
        for kind in kinds
    }
    item_fields = torch.from_numpy(np.array(events.item_fields))
    shapes = []
    for own in (schema, replace(schema, **larger)):
        model = build_model(name, own, item_fields, CASES[name])
        shapes.append({n: v.shape for n, v in model.state_dict().items()})
        known = set(field_tables(model, own))
    changed = {n for n, shape in shapes[1].items() if shape != shapes[0][n]}
    assert changed == known
    assert set(field_tables(model, own).values()) == {
        f"{kind.removesuffix('_fields')}/{one.name}" for kind in kinds for one in larger[kind]
    }


def without_values(events: Events, field: str, gone: set[str], new: list[str]) -> Events:
    """The log with some values of an item field unknown, and others beside them that no item has."""
    place = [one.name for one in events.schema.item_fields].index(field)
    old = events.item_values[field]
    values = [*new, *(value for value in old if value not in gone)]
    ids = np.array([0, 1, *(values.index(v) + FIRST_KNOWN if v in values else 1 for v in old)])
    fields = events.item_fields.copy()
    fields[:, place] = ids[fields[:, place]]
    known = list(events.schema.item_fields)
    known[place] = Field(field, len(values) + FIRST_KNOWN)
    return replace(
        events,
        item_fields=fields,
        item_values={**events.item_values, field: values},
        schema=replace(events.schema, item_fields=tuple(known)),
    )


def test_new_and_removed_items(events) -> None:
    recipe = recipe_of()
    start = left(train(events, recipe))
    old = events.item_values["item"]
    gone, new = {old[0], old[7]}, ["new-1", "new-2", "new-3"]
    other = without_values(events, "item", gone, new)
    fresh = build_model(
        "lrea", other.schema, torch.from_numpy(other.item_fields), recipe.model.config, seed=9
    )
    table = "frame.items.tables.0.weight"
    untouched = fresh.state_dict()[table].clone()
    optimizer = make_optimizer(fresh, recipe.train)
    clipping, mean = Clipping(fresh.parameters(), 2.0), RunningMean(fresh, 0.9)

    counts = start.apply(fresh, mean, optimizer, clipping, other)

    assert (counts["new"], counts["dropped"]) == (3, 2)
    weights, sums = fresh.state_dict()[table], state_of(fresh, optimizer, table)
    was, was_sums = start.tensors[f"weights/{table}"], start.tensors[f"optimizer/{table}/sum"]
    for row, value in enumerate(other.item_values["item"], FIRST_KNOWN):
        if value in new:
            assert torch.equal(weights[row], untouched[row])
            assert not sums[row].any()
        else:
            before = old.index(value) + FIRST_KNOWN
            assert torch.equal(weights[row], was[before])
            assert torch.equal(sums[row], was_sums[before])
    assert was_sums[FIRST_KNOWN:].any(), "else nothing is told of the optimiser"
    assert torch.equal(clipping.mean, start.tensors["clipping/mean"])
    after = train(other, recipe_of(warm_start=10), start=start)
    assert after.history[-1]["step"] == start.step + 10


def state_of(model: CtrModel, optimizer: torch.optim.Optimizer, name: str) -> torch.Tensor:
    place = optimiser_names(model, optimizer).index(name)
    sums: torch.Tensor = optimizer.state_dict()["state"][place]["sum"]
    return sums


REFUSED = {
    "config": ("lrea", {**SMALL, "rank": 4}, {}),
    "model": ("din", {}, {}),
    "optimizer": ("lrea", SMALL, {"optimizer": "adam"}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_another_model_is_refused(events, what: str) -> None:
    start = left(train(events, recipe_of()))
    name, config, rule = REFUSED[what]
    with pytest.raises(WarmStartError, match=f"warm start, {what}: got a checkpoint with .*, exp"):
        train(events, recipe_of(name, config, warm_start=10, **rule), start=start)


def test_only_what_differs_of_a_config_is_named(events) -> None:
    start = left(train(events, recipe_of()))
    other = recipe_of("lrea", {**SMALL, "rank": 4})
    expected = "warm start, config: got a checkpoint with {'rank': 8}, expected {'rank': 4}"
    with pytest.raises(WarmStartError, match=re.escape(expected)):
        start.require_fits(other, events)


def test_a_split_that_went_back_is_refused(events) -> None:
    """The earlier training would have seen targets that are now for validation and tests."""
    start = left(train(events, recipe_of()))
    split = events.split
    earlier = replace(split, validate_from_s=split.validate_from_s - 1)
    with pytest.raises(WarmStartError, match="which are now for validation and tests"):
        train(replace(events, split=earlier), recipe_of(warm_start=10), start=start)


@pytest.mark.parametrize("shares", [(0.1, 0.2), (0.2, 0.1)])
def test_other_shares_of_users_are_refused(events, shares: tuple[float, float]) -> None:
    by_user = replace(events.split, validate_users=0.1, test_users=0.1)
    start = left(train(replace(events, split=by_user), recipe_of()))
    other = replace(by_user, validate_users=shares[0], test_users=shares[1])
    with pytest.raises(WarmStartError, match="it may have seen today's tests"):
        train(replace(events, split=other), recipe_of(warm_start=10), start=start)


def test_a_damaged_start_is_refused(events, tmp_path: Path) -> None:
    with pytest.raises(WarmStartError, match=r"got no .*warm_start.json, expected those of"):
        WarmStart.load(tmp_path)
    train(events, recipe_of()).save(tmp_path)
    (tmp_path / "warm_start.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WarmStartError, match="cannot be read"):
        WarmStart.load(tmp_path)


def test_a_start_can_be_used_again(events) -> None:
    start = left(train(events, recipe_of()))
    before, recipe = start.digest(), recipe_of(warm_start=20)
    first = train(events, recipe, start=start)
    assert start.digest() == before
    assert seen(train(events, recipe, start=start).history) == seen(first.history)


def test_buckets_take_the_rows_of_the_buckets_in_which_they_were():
    old, new = ["", "-1", "5", "20"], ["", "-2", "4", "5", "12.5", "1000"]
    from_row, to_row = _nearest(old, new)
    moved = dict(zip(to_row.tolist(), from_row.tolist(), strict=True))
    assert moved == {2: 2, 3: 3, 4: 3, 5: 4, 6: 4, 7: 5}
    from_row, to_row = _nearest(old[1:], new)
    assert dict(zip(to_row.tolist(), from_row.tolist(), strict=True)) == {
        3: 2,
        4: 2,
        5: 3,
        6: 3,
        7: 4,
    }
    from_row, to_row = _nearest(old, new[1:])
    assert from_row.tolist() == [3, 3, 4, 4, 5]


def test_a_field_that_became_numeric_is_another_task(events: Events):
    warm = left(train(events, recipe_of()))
    hours = [str(hour) for hour in range(len(events.vocabulary.context["hour"]))]
    reader = NumberReader(tuple(hour + 0.5 for hour in range(len(hours) - 1)), has_missing=False)
    words = replace(
        events.vocabulary, context={"hour": hours}, readers={"context": {"hour": reader}}
    )
    with pytest.raises(WarmStartError, match=r"context_fields: got .*'hour'.*'hour \(numeric\)'"):
        warm.require_fits(recipe_of(), replace(events, vocabulary=words))
