"""A small log with known candidates, as a shop would write it: purchases and weekly offers of two stores."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from builder.recipe.recipe import Recipe
from tests.builder.logs import START_S, small_recipe

WEEK_S = 7 * 86_400
WEEKS, USERS, ITEMS = 10, 24, 30
POOLS = {"file": "offers.csv", "key": ["store", "week"]}
DAYS = {"train_from_day": 14, "validate_from_day": 42, "test_from_day": 56}
"""Two weeks of history, four to train on, two to validate and two to test on."""


def purchases(seed: int = 0) -> pl.DataFrame:
    """Two baskets of three items a week for each user, who loves three items; store 9 has no offers."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        loved = rng.choice(ITEMS, 3, replace=False)
        for week in range(WEEKS):
            for visit in range(2):
                store = 9 if (user, visit) == (0, 0) else user % 2
                time_s = START_S + week * WEEK_S + visit * 200_000 + user * 60
                basket = {int(rng.choice(loved)), *rng.choice(ITEMS, 2).tolist()}
                rows += [(f"u{user}", f"i{item}", time_s, store, week) for item in sorted(basket)]
    names = ["user_id", "item_id", "timestamp", "store", "week"]
    return pl.DataFrame(rows, schema=names, orient="row").sort("timestamp", maintain_order=True)


def offers(seed: int = 1) -> pl.DataFrame:
    """Half of the items in each store and week, each in one of three placements."""
    rng = np.random.default_rng(seed)
    rows = [
        (store, week, f"i{item}", ["front", "aisle", "end"][rng.integers(3)])
        for store in range(2)
        for week in range(WEEKS)
        for item in sorted(rng.choice(ITEMS, ITEMS // 2, replace=False).tolist())
    ]
    return pl.DataFrame(rows, schema=["store", "week", "item_id", "placement"], orient="row")


def write_pools(
    folder: Path,
    log: pl.DataFrame | None = None,
    shown: pl.DataFrame | None = None,
    **sections: Any,
) -> Recipe:
    """Write both files and return a recipe for them."""
    (purchases() if log is None else log).write_csv(folder / "events.csv")
    (offers() if shown is None else shown).write_csv(folder / "offers.csv")
    data = {"pools": POOLS, "candidate_fields": ["placement"], "min_item_count": 1}
    sections = {"split": DAYS, **sections}
    return small_recipe(folder, **{**sections, "data": data | sections.get("data", {})})
