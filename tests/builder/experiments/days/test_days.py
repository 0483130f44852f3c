"""Simulated days: no training sees the day that is scored, states are of the right time, and a run can be stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from builder.dataset.batches import find_slates
from builder.dataset.parts import batch_source
from builder.errors import StepError
from builder.experiments.days.generations import Generation, Protocol, planned
from builder.experiments.days.nights import (
    nights_of,
    read_log,
    require_same_values,
    scored_events,
    trained_events,
)
from builder.experiments.days.run import Run, Simulation
from builder.experiments.days.scoring import read_scored
from builder.experiments.days.states import as_of, state_distance, with_states
from builder.experiments.days.text import write_days
from builder.ingest.clean import CleanLog
from builder.ingest.split import DAY_S
from builder.recipe.models import ModelChoice
from builder.recipe.recipe import Recipe
from builder.train.train import train
from models.contract.age import age_buckets
from tests.builder.pool_logs import purchases, write_pools

SMALL = {"rank": 8, "slots": "items", "mlp": [16, 8], "item_dim": 8, "heads": 2}
PROTOCOL = Protocol(steps=8, warm_steps=4, full_nights=[2], validate_days=5.0)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    number = pl.col("user_id").str.slice(1).cast(pl.Int64)
    # On every day somebody buys.
    spread = purchases().with_columns(pl.col("timestamp") + number % 7 * DAY_S)
    made = write_pools(tmp_path, spread.sort("timestamp", maintain_order=True))
    rule: dict[str, Any] = {
        "steps": 8,
        "validate_every": 4,
        "slates_per_step": 8,
        "threads": 1,
        "patience": 0,
    }
    return replace(
        made,
        model=ModelChoice("lrea", SMALL),
        history=replace(made.history, length=16, recent=4),
        train=replace(made.train, **rule),
    )


@pytest.fixture
def log(recipe: Recipe) -> CleanLog:
    return read_log(recipe)


def tampered(log: CleanLog, cut_s: int) -> CleanLog:
    """The log with other items, labels, contexts and pools at and after a time."""
    is_late = pl.col("ts_s") >= cut_s
    items, pools = log.events["item"].unique().sort(), log.events["pool"].max()
    other = log.events.with_columns(
        item=pl.when(is_late).then(pl.lit(items[0])).otherwise(pl.col("item")),
        label=pl.when(is_late).then(1 - pl.col("label")).otherwise(pl.col("label")),
        pool=pl.when(is_late).then(pl.lit(pools)).otherwise(pl.col("pool")),
    )
    more = other.filter(is_late).with_columns(user=pl.lit("zzz, who came later"))
    return replace(log, events=pl.concat([other, more]).sort("user", "ts_s", maintain_order=True))


def test_training_is_the_same_whatever_the_next_day_brings(recipe, log) -> None:
    """Bit for bit: no label, count, value, item or pool of the day that is scored reaches the weights."""
    night = nights_of(log, recipe, 3, 5.0)[2]
    own = trained_events(log, night, recipe)
    other = trained_events(tampered(log, night.cut_s), night, recipe)
    assert int(own.ts_s.max()) < night.cut_s
    assert tampered(log, night.cut_s).events.height > log.events.height
    require_same_values(own, other)
    for name in ("item", "label", "ts_s", "train_popularity", "event_pool"):
        np.testing.assert_array_equal(getattr(own, name), getattr(other, name))

    one, two = train(own, recipe), train(other, recipe)

    assert all(torch.equal(value, two.weights[name]) for name, value in one.weights.items())


def test_what_is_tampered_with_before_the_cut_changes_the_training(recipe, log) -> None:
    """The test above can fail."""
    night = nights_of(log, recipe, 3, 5.0)[2]
    own = trained_events(log, night, recipe)
    other = trained_events(tampered(log, night.validate_from_s - 5 * DAY_S), night, recipe)
    one, two = train(own, recipe), train(other, recipe)
    assert not all(torch.equal(value, two.weights[name]) for name, value in one.weights.items())


def test_a_day_is_scored_on_its_own_targets_with_the_ids_of_the_build(recipe, log) -> None:
    nights = nights_of(log, recipe, 4, 5.0)
    for built in nights:
        events = scored_events(log, built, nights[3].cut_s, recipe)
        require_same_values(trained_events(log, built, recipe), events)
        slates = find_slates(events, "test", min_events=0, max_events=99)
        ts_s = np.asarray(events.ts_s)[slates.begin]
        assert len(slates)
        assert ((ts_s >= nights[3].cut_s) & (ts_s < nights[3].cut_s + DAY_S)).all()


def test_other_values_are_refused(recipe, log) -> None:
    first, *_, last = nights_of(log, recipe, 8, 5.0)
    one, other = trained_events(log, first, recipe), trained_events(log, last, recipe)
    with pytest.raises(StepError, match="got others a day later"):
        require_same_values(one, replace(other, item_values={}))


@pytest.mark.parametrize(
    ("states", "gap_s"), [("cut", 0), ("folded", 0), ("folded", 9_000), ("asked", 0)]
)
def test_states_are_of_their_time(recipe, log, states, gap_s) -> None:
    nights = nights_of(log, recipe, 4, 5.0)
    cut_s = nights[0].cut_s
    events = scored_events(log, nights[0], nights[3].cut_s, recipe)
    slates = find_slates(events, "test", min_events=0, max_events=99)
    source = batch_source(events, recipe, "test")
    when = as_of(events, slates, cut_s, states, gap_s)
    every = np.arange(len(slates))

    batch = with_states(source, source.whole(slates, every)[0], slates, when)

    ts_s, item = np.asarray(events.ts_s), np.asarray(events.item)
    moved = 0
    for row, (user, first) in enumerate(zip(slates.user, slates.first, strict=True)):
        begin, now_s = int(events.offsets[user]), int(ts_s[first])
        known = [e for e in range(begin, first) if states != "cut" or ts_s[e] < cut_s]
        newest_s = max([cut_s, *ts_s[known]])
        folded_s = newest_s + gap_s if newest_s > cut_s else cut_s
        from_s = {"cut": cut_s, "asked": now_s, "folded": folded_s}[states]
        moved += from_s != cut_s
        rows = item[known][-16:]
        ages = age_buckets(from_s - ts_s[known][-16:])
        assert batch.user.history[row].tolist() == [0] * (16 - len(rows)) + rows.tolist()
        assert batch.user.ages[row].tolist() == [0] * (16 - len(rows)) + ages.tolist()
        assert batch.context.recent[row].tolist() == batch.user.history[row][-4:].tolist()
    assert bool(moved) == (states != "cut")


def test_states_asked_for_are_those_that_training_sees(recipe, log) -> None:
    night = nights_of(log, recipe, 4, 5.0)[3]
    events = scored_events(log, night, night.cut_s, recipe)
    slates = find_slates(events, "test", min_events=0, max_events=99)
    source = batch_source(events, recipe, "test")
    batch, _ = source.whole(slates, np.arange(len(slates)))
    moved = with_states(source, batch, slates, as_of(events, slates, night.cut_s, "asked"))
    assert torch.equal(moved.user.history, batch.user.history)
    assert torch.equal(moved.user.ages, batch.user.ages)
    assert torch.equal(moved.context.recent, batch.context.recent)


def test_states_are_compared_item_by_item() -> None:
    one = {
        "slot_items": torch.tensor([[3, 5, 0]], dtype=torch.int32),
        "slot_sums": torch.tensor([[[2.0], [1.0], [0.0]]]),
    }
    order = torch.tensor([1, 0, 2])
    other = {name: value[:, order] for name, value in one.items()}
    assert state_distance(one, other) == 0
    other = one | {"slot_sums": one["slot_sums"] * 2}
    assert state_distance(one, other) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("days", "validate_days", "expected"), [(99, 5.0, "days: got 99"), (2, 99.0, "validate_days")]
)
def test_a_simulation_that_does_not_fit_is_refused(
    recipe, log, days, validate_days, expected
) -> None:
    with pytest.raises(StepError, match=expected):
        nights_of(log, recipe, days, validate_days)


def test_a_run_goes_on_where_it_was_stopped(recipe, tmp_path: Path) -> None:
    own = Simulation(recipe, 3, [0, 1], PROTOCOL, 6, tmp_path / "trained", tmp_path / "scores")
    seen: list[str] = []
    run = Run(own, lambda done, total, note="": seen.append(note))
    run.train()
    run.score()
    assert any("warm, night 1, seed 1: step 12/12" in note for note in seen)
    scores = read_scored(own.results)
    names = {(one["policy"], one["seed"], one["day"]) for one in scores}
    assert {day for name, seed, day in names if (name, seed) == ("full", 1)} == {1, 3}
    assert {name for name, seed, day in names if (seed, day) == (1, 2)} == {
        "warm",
        "kept",
        "kept-folded",
    }
    warm = [one for one in scores if one["policy"] == "warm" and one["day"] == 3]
    assert all(one["drift"]["full"]["rank_distance"] > 0 for one in warm)
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.*") if file.is_file()}

    again = Run(own)
    again.train()
    again.score()

    assert stamps == {file: file.stat().st_mtime_ns for file in stamps}
    text = (write_days(own.results, tmp_path / "page", "absorb simulate-days")[0]).read_text()
    assert "| warm start | 2 |" in text
    assert (tmp_path / "page" / "days.png").stat().st_size > 10_000


def test_a_warm_start_follows_every_night(recipe, log) -> None:
    nights = nights_of(log, recipe, 3, 5.0)
    plan = planned(nights, 4, PROTOCOL)
    assert [(one.kind, one.night.number) for one in plan] == [
        ("full", 0),
        ("warm", 1),
        ("warm", 2),
        ("full", 2),
    ]
    assert plan[0] == Generation("full", nights[0], 4)
