"""The synthetic log: deterministic, and its labels really follow the law that its docstring states."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from builder.ingest.events import Events
from builder.ingest.run import ingest
from builder.ingest.sources import SOURCES
from builder.ingest.sources import synthetic as law
from builder.recipe.data import Synthetic
from builder.recipe.recipe import Recipe, load_recipe, recipe_from
from models.contract.schema import FIRST_KNOWN
from tests.builder.logs import plain_recipe

SIZE = {"users": 120, "items": 60, "categories": 12, "interests": 3, "events_per_user": 100}


def recipe_of(**size: Any) -> Recipe:
    values = plain_recipe(
        split={"train_from_day": 50, "validate_from_day": 80, "test_from_day": 90}
    )
    values["data"] = {
        "source": "synthetic",
        "item_fields": ["category"],
        "context_fields": [],
        "synthetic": SIZE | size,
    }
    return recipe_from(values, Path("recipe.toml"))


@pytest.fixture(scope="module")
def events() -> Events:
    return ingest(recipe_of())


def test_same_seed_same_log_and_another_seed_another() -> None:
    first, again, other = (
        SOURCES["synthetic"].read(recipe_of(seed=seed)).events.frame for seed in (1, 1, 2)
    )

    assert first.equals(again)
    assert not first.equals(other)


def test_log_has_the_size_it_was_asked_for(events: Events) -> None:
    assert events.num_users == 120
    assert events.schema.num_items == 60 + FIRST_KNOWN
    assert np.diff(events.offsets).tolist() == [100] * 120


def test_users_in_several_chunks_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(law, "USERS_AT_ONCE", 50)

    frame = SOURCES["synthetic"].read(recipe_of()).events.frame

    assert frame["user_id"].n_unique() == 120
    assert frame["user_id"].value_counts()["count"].unique().to_list() == [100]


def test_purchases_come_first_and_only_what_is_shown_has_an_oracle(events: Events) -> None:
    assert events.oracle is not None
    is_shown = ~np.isnan(events.oracle)

    assert (events.label[~is_shown] == 1).all()
    assert events.ts_s[~is_shown].max() < events.split.train_from_s + 1
    assert events.ts_s[is_shown].min() >= events.split.train_from_s - 86_400
    assert is_shown.mean() == 0.5


def test_oracle_is_the_documented_law_of_the_interests() -> None:
    """The module's equation in loops, for every shown item of some users."""
    world, interests, frame = small_log()
    frame = frame.with_columns(item=pl.col("item_id").str.slice(1).cast(pl.Int64))
    num_bought = int((~world.is_shown).sum())

    checked = 0
    for user in range(6):
        rows = frame.filter(pl.col("user_id") == f"u{user}").sort("timestamp", maintain_order=True)
        for place, (item, found) in enumerate(rows.select("item", "click_probability").rows()):
            if place < num_bought:
                assert np.isnan(found)
                continue
            step = num_bought + (place - num_bought) // law.SLATE
            wanted = click_chance(world, interests, user, item, step)
            assert found == pytest.approx(wanted, abs=1e-6)
            checked += 1
    assert checked == 6 * 50


def small_log() -> tuple[law.World, law.Interests, pl.DataFrame]:
    """The world of `SIZE`, the interests of 20 users, and their events."""
    rng = np.random.default_rng(0)
    world = law.make_world(Synthetic(**SIZE), rng)
    interests = law.draw_interests(world, 20, rng)
    return world, interests, law.draw_events(world, interests, 0, rng)


def click_chance(
    world: law.World, interests: law.Interests, user: int, item: int, step: int
) -> float:
    """The module's equation for 12 categories, three of them of staples, and noise 0.05."""
    if item % 12 < 3:
        return 0.05 + 0.9 * 0.5
    nearest = -np.inf
    for place in range(3):
        vector = interests.begin[user, place] + step / 60 * interests.drift[user, place]
        likeness = world.vectors[item] @ vector / np.sqrt(vector @ vector)
        is_active = place == step // 5 % 3
        nearest = max(nearest, likeness - (0.0 if is_active else 0.1))
    return float(0.05 + 0.9 / (1 + np.exp(-15.0 * (nearest - 0.6))))


def test_an_interest_drifts_and_stays_a_unit_vector() -> None:
    _, interests, _ = small_log()

    begin, end = interests.at(0.0), interests.at(1.0)

    assert np.linalg.norm(end, axis=2) == pytest.approx(1)
    assert 0.6 < (begin * end).sum(2).mean() < 0.95


def test_labels_are_drawn_from_the_oracle() -> None:
    """Within four standard deviations for each third of the chances, over ten logs."""
    logs = pl.concat(
        SOURCES["synthetic"].read(recipe_of(seed=seed)).events.frame for seed in range(10)
    )
    shown = logs.filter(pl.col("click_probability").is_not_nan())
    chance, label = shown["click_probability"].to_numpy().astype(float), shown["label"].to_numpy()

    for low in (0.0, 0.3, 0.6):
        inside = (chance >= low) & (chance < low + 0.3)
        deviation = np.sqrt((chance[inside] * (1 - chance[inside])).sum())
        assert abs(label[inside].sum() - chance[inside].sum()) < 4 * deviation


@dataclass(frozen=True)
class _Seen:
    """What a test target that is no staple shares with its history, [n] each.

    Attributes:
        label: 1 clicked.
        chance: the true probability.
        item: events of the history with the same item.
        category: with the same category.
        likeness: sum of exp(10 (cos - 1)) over the history, cos between the items' true vectors.
        recent: the same over the latest 20 events.
    """

    label: NDArray[np.int64]
    chance: NDArray[np.float64]
    item: NDArray[np.int64]
    category: NDArray[np.int64]
    likeness: NDArray[np.float64]
    recent: NDArray[np.float64]


@pytest.fixture(scope="module")
def seen() -> _Seen:
    """Targets of the last tenth of the time, in a log of the shipped recipe's size but with fewer users."""
    size = replace(load_recipe("builder/recipes/synthetic.toml").data.synthetic, users=150)
    rng = np.random.default_rng(0)
    world = law.make_world(size, rng)
    frame = law.draw_events(world, law.draw_interests(world, size.users, rng), 0, rng)
    frame = frame.with_columns(item=pl.col("item_id").str.slice(1).cast(pl.Int64))
    rows = []
    for _, log in frame.group_by("user_id", maintain_order=True):
        log = log.sort("timestamp", maintain_order=True)
        items, times, labels, chances = (
            log[name].to_numpy() for name in ("item", "timestamp", "label", "click_probability")
        )
        is_target = (times >= law.START_S + 90 * 86_400) & ~world.is_staple(items)
        for event in np.flatnonzero(is_target):
            past = items[(times < times[event]) & (labels == 1)]
            same = past % size.categories == items[event] % size.categories
            near = np.exp(10 * (world.vectors[past] @ world.vectors[items[event]] - 1))
            counts = (past == items[event]).sum(), same.sum(), near.sum(), near[-20:].sum()
            rows.append((labels[event], chances[event], *counts))
    return _Seen(*map(np.array, zip(*rows, strict=True)))


def test_an_item_of_the_history_is_a_click_or_not(seen: _Seen) -> None:
    """No leak: neither class is nearly sure among repeats, nor among items bought often."""
    for low, high in ((0, 0), (1, 1), (2, 3), (4, 7)):
        inside = (seen.item >= low) & (seen.item <= high)
        assert inside.mean() > 0.02
        assert 0.15 < seen.label[inside].mean() < 0.85


def test_likeness_of_vectors_tells_more_than_counts(seen: _Seen) -> None:
    """Neither is the truth: its AUC is far above both."""
    counts = np.log1p(np.stack([seen.item, seen.category], 1))
    half = len(counts) // 2
    fitted = LogisticRegression().fit(counts[:half], seen.label[:half])

    by_counts = roc_auc_score(seen.label[half:], fitted.decision_function(counts[half:]))
    by_likeness = roc_auc_score(seen.label[half:], seen.likeness[half:])
    best = roc_auc_score(seen.label[half:], seen.chance[half:])

    assert by_counts > 0.65
    assert by_likeness > by_counts + 0.015
    assert best > by_likeness + 0.04


def test_recent_events_predict_less_than_the_whole_history(seen: _Seen) -> None:
    recent, whole = (roc_auc_score(seen.label, score) for score in (seen.recent, seen.likeness))

    assert recent + 0.05 < whole


def test_saved_oracle_loads_as_it_was(tmp_path: Path, events: Events) -> None:
    events.save(tmp_path)
    loaded = Events.load(tmp_path)

    assert loaded.oracle is not None
    assert events.oracle is not None
    assert np.array_equal(loaded.oracle, events.oracle, equal_nan=True)
