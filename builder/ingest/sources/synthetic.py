"""A synthetic log with drifting interests that are not counts, whose true click probabilities are known.

Items and interests are vectors, which no model sees. Items of one category are near each other, but not alike:
interests are places between items, not categories. Each user has K interests; each drifts along a line while the log
goes on, and they are active in turn.

In the older half of the time users buy: mostly an item near the active interest, at times one that they bought before.
In the newer half slates are shown, mostly of staples, which all users click with the same probability: recent clicks
say little. The rest are earlier purchases, items near an interest, and any items. An item that is not a staple is
clicked with probability

    p = ε + (1 - 2ε) σ(SHARP · (max_k (⟨z_i, u_k(t)⟩ - REST · [k is not active]) - LIKE))

and a staple with ε + (1 - 2ε) STAPLE, where z_i is the item's unit vector, u_k(t) that of interest k at time t of the
log (0 to 1), and ε the noise. What was bought long ago may be liked no more, and what was never bought may be liked, so
an item of the history is a 1 or a 0. No model ranks better than p. A model sees the history, not the interests, so at
best it comes close.
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
LIKED_SHARE, AGAIN_SHARE = 0.9, 0.3
"""Shares of purchases that are near the active interest, and that are of an item that was bought before."""
STAPLE_SHARE = 0.5
"""Share of staples among shown items; a third of the others each is bought before, near an interest, and any item."""
STAPLE = 0.5
CATEGORIES_PER_STAPLE = 4
"""One category in this many holds staples; they are the first ones."""
WIDTH = 8
"""Dimensions of the vectors."""
SPREAD = 0.9
"""Distance of an item from the middle of its category, as a share of that from the origin."""
DRIFT = 0.6
"""How far an interest moves during the log, as a share of its distance from the origin."""
TURN = 5
"""Steps after which the next interest is active."""
SEEN, CHOICE = 48, 12.0
"""Items that a purchase is chosen from, and the weight of their likeness in that choice."""
SHARP, LIKE, REST = 15.0, 0.6, 0.1
USERS_AT_ONCE = 2_000
"""Users drawn at once: bounds the memory."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
COLUMNS = Columns(user="user_id", item="item_id", time="timestamp", label="label")


@dataclass(frozen=True)
class World:
    """What all users share.

    Attributes:
        size: the recipe's section.
        num_staples: number of staple categories.
        vectors: unit vector of each item; [items, WIDTH].
        appeal: probability of each item within its category; [items / categories].
        is_shown: whether a step shows a slate; the steps before the first slate are purchases.
        start_s: epoch second at which each step begins, and the end of the last.
    """

    size: Synthetic
    num_staples: int
    vectors: Floats
    appeal: Floats
    is_shown: NDArray[np.bool_]
    start_s: Floats

    def is_staple(self, item: Ints) -> NDArray[np.bool_]:
        """Whether all users click an item with the same probability."""
        return np.asarray(item % self.size.categories < self.num_staples)


@dataclass(frozen=True)
class Interests:
    """Interests of n users: u_k(t) is the unit vector of `begin` + t · `drift`; both [n, K, WIDTH]."""

    begin: Floats
    drift: Floats

    def at(self, share: float) -> Floats:
        """Unit vectors when this share of the log is over, [n, K, WIDTH]."""
        return _unit(self.begin + share * self.drift)


def read_synthetic(recipe: Recipe) -> RawLog:
    """Draw a log. The same seed gives the same log."""
    size = recipe.data.synthetic
    world_seed, *seeds = np.random.SeedSequence(size.seed).spawn(
        1 + -(-size.users // USERS_AT_ONCE)
    )
    world = make_world(size, np.random.default_rng(world_seed))
    parts = []
    for seed, first in zip(seeds, range(0, size.users, USERS_AT_ONCE), strict=True):
        rng = np.random.default_rng(seed)
        num_users = min(USERS_AT_ONCE, size.users - first)
        parts.append(draw_events(world, draw_interests(world, num_users, rng), first, rng))
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
    """This module: with the recipe, it decides the log."""
    return [Path(__file__)]


def make_world(size: Synthetic, rng: np.random.Generator) -> World:
    """Draw the items' vectors, and lay out the steps."""
    num_slates = round(SHOWN_SHARE * size.events_per_user / SLATE)
    num_bought = size.events_per_user - num_slates * SLATE
    half_s = DAYS * 43_200
    bought_s = np.linspace(0, half_s, num_bought, endpoint=False)
    shown_s = np.linspace(half_s, 2 * half_s, num_slates + 1)
    rank = np.arange(1, size.items // size.categories + 1)
    middle = _unit(rng.normal(size=(size.categories, WIDTH)))
    aside = _unit(rng.normal(size=(size.items, WIDTH)))
    return World(
        size=size,
        num_staples=size.categories // CATEGORIES_PER_STAPLE,
        vectors=_unit(middle[np.arange(size.items) % size.categories] + SPREAD * aside),
        appeal=rank**-0.8 / (rank**-0.8).sum(),
        is_shown=np.arange(num_bought + num_slates) >= num_bought,
        start_s=START_S + np.concatenate([bought_s, shown_s]),
    )


def draw_interests(world: World, num_users: int, rng: np.random.Generator) -> Interests:
    """Interests that begin at items other than staples and drift in random directions."""
    shape = (num_users, world.size.interests)
    begin = world.vectors[_any_items(world, shape, rng)]
    return Interests(begin, DRIFT * _unit(rng.normal(size=begin.shape)))


def draw_events(
    world: World, interests: Interests, first: int, rng: np.random.Generator
) -> pl.DataFrame:
    """Events of users `first`, `first` + 1, …, step by step, all users at once."""
    num_users, num_bought = len(interests.begin), int((~world.is_shown).sum())
    bought = np.zeros((num_users, num_bought), np.int64)
    steps = []
    for step, is_shown in enumerate(world.is_shown):
        now = interests.at(step / len(world.is_shown))
        active = step // TURN % world.size.interests
        if is_shown:
            item = _show(world, now, bought, rng)
            chance = click_chance(world, item, now, active)
            label = rng.random(item.shape) < chance
        else:
            item = _buy(world, now[:, active], bought[:, :step], rng)
            bought[:, step] = item[:, 0]
            chance, label = np.full(item.shape, np.nan), np.ones(item.shape, bool)
        length_s = world.start_s[step + 1] - world.start_s[step]
        time_s = world.start_s[step] + length_s * rng.random(num_users)
        steps.append((item, label, chance, np.repeat(time_s[:, None], item.shape[1], 1)))
    item, label, chance, time_s = (np.concatenate(part, 1) for part in zip(*steps, strict=True))
    user = np.repeat(np.arange(first, first + num_users), item.shape[1])
    return pl.DataFrame(
        {
            "user_id": user,
            "item_id": item.ravel(),
            "timestamp": time_s.ravel().astype(np.int64),
            "label": label.ravel().astype(np.int8),
            "click_probability": chance.ravel().astype(np.float32),
        }
    ).with_columns(
        user_id=pl.format("u{}", "user_id"),
        item_id=pl.format("i{}", "item_id"),
    )


def click_chance(world: World, item: Ints, interests: Floats, active: int) -> Floats:
    """Click probability by the module's equation, [n, C].

    Args:
        world: what all users share.
        item: items, [n, C].
        interests: unit vectors of the users' interests now, [n, K, WIDTH].
        active: the active interest.
    """
    likeness = np.einsum("ncd,nkd->nck", world.vectors[item], interests)
    is_resting = np.arange(interests.shape[1]) != active
    nearest = (likeness - REST * is_resting).max(2)
    liked = 1 / (1 + np.exp(-SHARP * (nearest - LIKE)))
    sure = np.where(world.is_staple(item), STAPLE, liked)
    chance: Floats = world.size.noise + (1 - 2 * world.size.noise) * sure
    return chance


def _buy(world: World, interest: Floats, bought: Ints, rng: np.random.Generator) -> Ints:
    """One item for each user, [n, 1]: of some that it sees, or bought before, one near its active interest or any."""
    seen = _any_items(world, (len(interest), SEEN), rng)
    if bought.shape[1]:
        earlier = rng.integers(bought.shape[1], size=seen.shape)
        is_again = rng.random((len(seen), 1)) < AGAIN_SHARE
        seen = np.where(is_again, np.take_along_axis(bought, earlier, 1), seen)
    is_liked = rng.random(len(seen)) < LIKED_SHARE
    return _choose(world, seen, np.where(is_liked[:, None], interest, 0.0), rng)


def _show(world: World, interests: Floats, bought: Ints, rng: np.random.Generator) -> Ints:
    """A slate for each user, [n, SLATE]."""
    shape = (len(bought), SLATE)
    staple = rng.integers(world.num_staples, size=shape)
    staple = _of_category(world, staple, rng)
    again = np.take_along_axis(bought, rng.integers(bought.shape[1], size=shape), 1)
    user, interest = np.arange(len(bought)), rng.integers(interests.shape[1], size=shape)
    near = [
        _choose(world, _any_items(world, (len(bought), SEEN), rng), interests[user, place], rng)
        for place in interest.T
    ]
    kinds = np.stack([again, np.concatenate(near, 1), _any_items(world, shape, rng)])
    kind = rng.integers(len(kinds), size=shape)
    other = np.take_along_axis(kinds, kind[None], 0)[0]
    return np.where(rng.random(shape) < STAPLE_SHARE, staple, other)


def _choose(world: World, seen: Ints, interest: Floats, rng: np.random.Generator) -> Ints:
    """One of each user's items, by a softmax of their likeness to its interest; [n, 1]."""
    likeness = np.einsum("nsd,nd->ns", world.vectors[seen], interest)
    place = (CHOICE * likeness + rng.gumbel(size=seen.shape)).argmax(1)
    return np.take_along_axis(seen, place[:, None], 1)


def _any_items(world: World, shape: tuple[int, ...], rng: np.random.Generator) -> Ints:
    """Items other than staples, by their appeal."""
    return _of_category(world, rng.integers(world.num_staples, world.size.categories, shape), rng)


def _of_category(world: World, category: Ints, rng: np.random.Generator) -> Ints:
    place = rng.choice(len(world.appeal), size=category.shape, p=world.appeal)
    return np.asarray(place * world.size.categories + category)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
