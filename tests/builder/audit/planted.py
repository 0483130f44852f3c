"""Small logs, clean ones and ones into which a leak was planted, as a user would have them: files and a recipe."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from builder.audit.report import Audit
from builder.audit.run import audit
from builder.recipe.recipe import Recipe
from tests.builder.logs import START_S, ingest_at, small_recipe

DAY_S = 86_400
USERS, ITEMS, TIMES, WIDTH = 120, 60, 30, 4
NAMES = ("user_id", "item_id", "timestamp", "clicked", "device")
SPLIT = {"train_from": 0.2, "validate_from": 0.6, "test_from": 0.8}
"""The first fifth is history only."""


def shown_log(seed: int = 0) -> pl.DataFrame:
    """Slates of four random items, of which each is clicked with probability one half."""
    rng = np.random.default_rng(seed)
    size = USERS * TIMES * WIDTH
    at = np.arange(USERS * TIMES).repeat(WIDTH)
    user, time = at // TIMES, at % TIMES
    return pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in user],
            "item_id": [f"i{i}" for i in _different_items(rng)],
            "timestamp": START_S + time * DAY_S + user * 60,
            "clicked": rng.integers(0, 2, size),
            "device": [f"d{d}" for d in rng.integers(0, 3, USERS * TIMES).repeat(WIDTH)],
            "slate": at,
        }
    )


def _different_items(rng: np.random.Generator) -> np.ndarray:
    order = rng.random((USERS * TIMES, ITEMS)).argsort(1)
    return np.asarray(order[:, :WIDTH].ravel())


def bought_log(seed: int = 0, *, repeats: bool = True) -> pl.DataFrame:
    """Purchases of two items at a time, from a user's own 20 of 200 items; without repeats, each item once."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        own = rng.permutation(200)[:20]
        bought = (
            np.stack([rng.choice(own, 2, replace=False) for _ in range(TIMES)])
            if repeats
            else rng.permutation(200)[: 2 * TIMES].reshape(TIMES, 2)
        )
        for time, items in enumerate(bought):
            rows += [(f"u{user}", f"i{item}", START_S + time * DAY_S + user * 60) for item in items]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def recipe_of(folder: Path, frame: pl.DataFrame, **sections: Any) -> Recipe:
    """A recipe of a log, which is written to the folder."""
    frame.write_csv(folder / "events.csv")
    data = {"min_item_count": 1, **sections.pop("data", {})}
    if "clicked" in frame.columns:
        data = {"columns": {"label": "clicked"}, "context_fields": ["device"], **data}
    history = {"length": 40, "recent": 4}
    return small_recipe(folder, data=data, split=SPLIT, history=history, **sections)


def audited(folder: Path, frame: pl.DataFrame, **sections: Any) -> Audit:
    """The audit of a log."""
    recipe = recipe_of(folder, frame, **sections)
    return audit(ingest_at(recipe), recipe)


def failing(found: Audit) -> set[str]:
    """Names of the rules and checks that fail, without their groups."""
    names = {finding.rule for finding in found.findings if finding.verdict == "fails"}
    return names | {check.name for check in found.checks if check.verdict == "fails"}
