"""The synthetic log: deterministic, and its labels really follow the law that its docstring states."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from builder.ingest.events import Events
from builder.ingest.run import ingest
from builder.ingest.sources import SOURCES
from builder.ingest.sources import synthetic as law
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


def test_oracle_is_the_documented_law_of_the_history_before(events: Events) -> None:
    """Recomputed with loops from the ingested arrays alone: so it is a function of what a model sees."""
    assert events.oracle is not None
    names = [int(item[1:]) for item in events.vocabulary.items]
    for user in range(20):
        begin, end = events.offsets[user], events.offsets[user + 1]
        for event in range(begin, end):
            if np.isnan(events.oracle[event]):
                continue
            before = [
                names[events.item[i] - FIRST_KNOWN]
                for i in range(begin, end)
                if events.ts_s[i] < events.ts_s[event] and events.label[i]
            ]
            item = names[events.item[event] - FIRST_KNOWN]
            assert events.oracle[event] == pytest.approx(click_chance(item, before), abs=1e-5)


def click_chance(item: int, before: list[int]) -> float:
    """The module's equation for 12 categories (three of staples) and noise 0.05."""
    category = item % 12
    if category < 3:
        return 0.05 + 0.9 * 0.5
    in_category = sum(other % 12 == category for other in before)
    logit = 1.5 * (np.log1p(in_category) - np.log1p(len(before) / 12))
    logit += 0.5 * np.log1p(before.count(item)) - 1.0
    return float(0.05 + 0.9 / (1 + np.exp(-logit)))


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


def test_recent_events_predict_less_than_the_whole_history() -> None:
    """The point of this log, at the shipped recipe's law: counts of 20 events rank worse than of all."""
    recipe = load_recipe("builder/recipes/synthetic.toml")
    events = ingest(
        recipe_of(users=150, items=1200, categories=60, interests=12, events_per_user=500)
    )
    assert recipe.data.synthetic.interests == 12
    assert events.oracle is not None
    categories = events.item_fields[:, 1]
    scores: dict[int, list[int]] = {20: [], 500: []}
    chance, label = [], []
    for user in range(events.num_users):
        begin, end = events.offsets[user], events.offsets[user + 1]
        is_old = events.ts_s[begin:end] < events.split.test_from_s
        history = categories[events.item[begin:end][is_old & (events.label[begin:end] == 1)]]
        for event in np.arange(begin, end)[~is_old]:
            if abs(events.oracle[event] - 0.5) < 1e-6:
                continue  # a staple: the history says nothing, by design
            for length, counts in scores.items():
                counts.append(int((history[-length:] == categories[events.item[event]]).sum()))
            chance.append(events.oracle[event])
            label.append(events.label[event])

    recent, whole, best = (roc_auc_score(label, s) for s in (scores[20], scores[500], chance))

    assert recent + 0.05 < whole
    assert whole <= best + 0.01


def test_saved_oracle_loads_as_it_was(tmp_path: Path, events: Events) -> None:
    events.save(tmp_path)
    loaded = Events.load(tmp_path)

    assert loaded.oracle is not None
    assert events.oracle is not None
    assert np.array_equal(loaded.oracle, events.oracle, equal_nan=True)
