"""A synthetic log with planted long-term interests, whose Bayes-optimal scores are known.

In the older half of the time users buy, mostly from the few categories that they prefer. In the newer half slates are
shown, mostly of staples, which all users click with the same probability: recent clicks say little about preferences.
An item that is not a staple is clicked with probability

    p = ε + (1 - 2ε) σ(CATEGORY · (log(1 + n_c) - log(1 + n / K)) + ITEM · log(1 + n_i) + BIAS)

and a staple with ε + (1 - 2ε) STAPLE, where n, n_c and n_i count the user's earlier positives: all of them, those of
the item's category, those of the item; K is the number of categories, ε the noise. p depends on the history only, so no
model ranks better than p.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.ingest.sources.raw import RawLog, Table
from builder.recipe.data import Columns, Synthetic
from builder.recipe.recipe import Recipe

START_S = 1_735_689_600
"""2025-01-01."""
DAYS = 100
SHOWN_SHARE = 0.5
"""Share of a user's events that are shown items; the others are purchases."""
SLATE = 5
"""Number of items shown together."""
LOVED_SHARE = 0.8
"""Share of purchases from preferred categories."""
STAPLE_SHARE = 0.6
"""Share of staples among shown items; half of the others are from preferred categories."""
STAPLE = 0.5
CATEGORIES_PER_STAPLE = 4
"""One category in this many holds staples; they are the first ones."""
CATEGORY, ITEM, BIAS = 1.5, 0.5, -1.0
USERS_AT_ONCE = 2_000
"""Users drawn at once: bounds the memory of the [users, items] counts."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
COLUMNS = Columns(user="user_id", item="item_id", time="timestamp", label="label")


@dataclass(frozen=True)
class _World:
    """Constants of a log.

    Attributes:
        size: the recipe's section.
        num_staples: number of staple categories.
        appeal: probability of each item within its category; [items / categories].
        is_shown: whether a step shows a slate; the steps before the first slate are purchases.
        start_s: epoch second at which each step begins, and the end of the last.
    """

    size: Synthetic
    num_staples: int
    appeal: Floats
    is_shown: NDArray[np.bool_]
    start_s: Floats


def read_synthetic(recipe: Recipe) -> RawLog:
    """Draw a log. The same seed gives the same log."""
    size = recipe.data.synthetic
    seeds = np.random.SeedSequence(size.seed)
    world = _make_world(size)
    starts = range(0, size.users, USERS_AT_ONCE)
    parts = [
        _draw_users(
            world, first, min(USERS_AT_ONCE, size.users - first), np.random.default_rng(seed)
        )
        for first, seed in zip(starts, seeds.spawn(len(starts)), strict=True)
    ]
    item = np.arange(size.items)
    items = {
        "item_id": [f"i{i}" for i in item],
        "category": [f"c{i}" for i in item % size.categories],
    }
    return RawLog(
        events=Table("synthetic events", pl.concat(parts)),
        columns=COLUMNS,
        items=Table("synthetic items", pl.DataFrame(items)),
        users=None,
        oracle="click_probability",
    )


def find_synthetic(_recipe: Recipe) -> list[Path]:
    """No files: the recipe alone decides the log."""
    return []


def _make_world(size: Synthetic) -> _World:
    num_slates = round(SHOWN_SHARE * size.events_per_user / SLATE)
    num_bought = size.events_per_user - num_slates * SLATE
    half_s = DAYS * 43_200
    bought_s = np.linspace(0, half_s, num_bought, endpoint=False)
    shown_s = np.linspace(half_s, 2 * half_s, num_slates + 1)
    rank = np.arange(1, size.items // size.categories + 1)
    return _World(
        size=size,
        num_staples=size.categories // CATEGORIES_PER_STAPLE,
        appeal=rank**-0.8 / (rank**-0.8).sum(),
        is_shown=np.arange(num_bought + num_slates) >= num_bought,
        start_s=START_S + np.concatenate([bought_s, shown_s]),
    )


def _draw_users(
    world: _World, first: int, num_users: int, rng: np.random.Generator
) -> pl.DataFrame:
    """Events of users `first`, `first` + 1, …, step by step, all users at once."""
    size = world.size
    others = size.categories - world.num_staples
    loved = rng.random((num_users, others)).argsort(1)[:, : size.interests] + world.num_staples
    by_category = np.zeros((num_users, size.categories))
    by_item = np.zeros((num_users, size.items))
    steps = []
    for step, is_shown in enumerate(world.is_shown):
        width = SLATE if is_shown else 1
        item = _draw_items(world, loved, width, rng)
        click = _click_probability(world, item, by_category, by_item)
        label = rng.random(item.shape) < click if is_shown else np.ones(item.shape, bool)
        for column in range(width):  # one column at a time: a slate may show an item twice
            rows = np.flatnonzero(label[:, column])
            by_item[rows, item[rows, column]] += 1
            by_category[rows, item[rows, column] % size.categories] += 1
        length_s = world.start_s[step + 1] - world.start_s[step]
        time_s = world.start_s[step] + length_s * rng.random(num_users)
        known = click if is_shown else np.full(item.shape, np.nan)
        steps.append((item, label, known, np.repeat(time_s[:, None], width, 1)))
    item, label, known, time_s = (np.concatenate(part, 1) for part in zip(*steps, strict=True))
    user = np.repeat(np.arange(first, first + num_users), item.shape[1])
    return pl.DataFrame(
        {
            "user_id": user,
            "item_id": item.ravel(),
            "timestamp": time_s.ravel().astype(np.int64),
            "label": label.ravel().astype(np.int8),
            "click_probability": known.ravel().astype(np.float32),
        }
    ).with_columns(
        user_id=pl.format("u{}", "user_id"),
        item_id=pl.format("i{}", "item_id"),
    )


def _draw_items(world: _World, loved: Ints, width: int, rng: np.random.Generator) -> Ints:
    """Items that are bought (one) or shown (several) in a step, [users, width]."""
    size, shape = world.size, (len(loved), width)
    favourite = np.take_along_axis(loved, rng.integers(size.interests, size=shape), 1)
    other = rng.integers(world.num_staples, size.categories, size=shape)
    staple = rng.integers(world.num_staples, size=shape)
    is_shown = width > 1
    loved_share, staple_share = (0.5, STAPLE_SHARE) if is_shown else (LOVED_SHARE, 0.0)
    category = np.where(rng.random(shape) < loved_share, favourite, other)
    category = np.where(rng.random(shape) < staple_share, staple, category)
    place = rng.choice(len(world.appeal), size=shape, p=world.appeal)
    return place * size.categories + category


def _click_probability(world: _World, item: Ints, by_category: Floats, by_item: Floats) -> Floats:
    """Click probability by the equation above, [users, width]."""
    size, category = world.size, item % world.size.categories
    in_category = np.take_along_axis(by_category, category, 1)
    of_item = np.take_along_axis(by_item, item, 1)
    even = by_category.sum(1, keepdims=True) / size.categories
    logit = CATEGORY * (np.log1p(in_category) - np.log1p(even)) + ITEM * np.log1p(of_item) + BIAS
    sure = np.where(category < world.num_staples, STAPLE, 1 / (1 + np.exp(-logit)))
    click: Floats = size.noise + (1 - 2 * size.noise) * sure
    return click
