"""Negatives by popularity and category: their shares, their category, and what training may know."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from builder.dataset.batches import BatchSource, find_slates
from builder.dataset.negatives import NegativeSampler
from builder.dataset.parts import batch_source, part_slates
from builder.ingest.events import Events
from builder.recipe.negatives import NegativeRule
from builder.recipe.recipe import load_recipe
from tests.builder.hand_made import Event, make_events
from tests.builds import RECIPE

DRAWS = 20_000


def world(times: dict[int, int], mine: tuple[int, ...] = (2,)) -> Events:
    """User 0 has bought `mine`, user 1 each item as often as `times` says; categories: even rows 2, odd rows 3."""
    others = [Event(101, item) for item, count in times.items() for _ in range(count)]
    categories = [2 + row % 2 for row in range(2, 20)]
    return make_events([[Event(101, item) for item in mine], others], categories=categories)


def draw(
    events: Events,
    *,
    power: float = 1.0,
    same_category: float = 0.0,
    positive: int = 2,
    seed: int = 0,
) -> NDArray[np.int64]:
    rule = NegativeRule(popularity_power=power, same_category=same_category)
    event = int(np.flatnonzero(events.item[: events.offsets[1]] == positive)[0])
    return NegativeSampler(events, rule).draw(np.full(DRAWS, event), np.random.default_rng(seed))


def test_never_an_item_without_an_event() -> None:
    events = world({7: 1, 9: 1})

    assert set(draw(events, power=0.0).tolist()) == {7, 9}


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_share_of_an_item_is_its_popularity_to_the_power(power) -> None:
    times = {7: 1, 8: 4, 9: 16, 10: 64}

    found = np.bincount(draw(world(times), power=power), minlength=20)[list(times)]

    weight = np.array(list(times.values())) ** power
    expected = DRAWS * weight / weight.sum()
    chi_square = ((found - expected) ** 2 / expected).sum()
    assert chi_square < 16.3  # 99.9% of a chi-square of 3 degrees of freedom


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_category_share_is_as_asked(share) -> None:
    """Of the rest, drawn from all items, half are of the positive's category by chance."""
    events = world(dict.fromkeys(range(4, 20), 3))

    found = (draw(events, same_category=share, positive=2) % 2 == 0).mean()

    assert found == pytest.approx(share + (1 - share) / 2, abs=0.015)


def test_same_seed_draws_the_same() -> None:
    events = world(dict.fromkeys(range(2, 20), 3))

    assert np.array_equal(draw(events, seed=1), draw(events, seed=1))
    assert not np.array_equal(draw(events, seed=1), draw(events, seed=2))


def test_no_negative_is_drawn_where_no_item_is_left() -> None:
    everything = tuple(range(2, 20))

    assert not draw(world({2: 1}, mine=everything)).any()


def test_a_positive_whose_category_is_exhausted_has_no_hard_negative() -> None:
    evens = tuple(range(2, 20, 2))
    events = world({3: 50, 5: 1}, mine=(*evens, 5))

    assert not draw(events, same_category=1.0, positive=2).any()
    assert set(draw(events, same_category=1.0, positive=5).tolist()) == {3}


@pytest.mark.parametrize(("part", "sees_new_items"), [("train", False), ("test", True)])
def test_training_draws_by_the_popularity_of_its_days_only(part, sees_new_items) -> None:
    """An item that appears only later would always be a negative in training and never a positive."""
    later = [Event(350, item) for item in range(12, 18)]
    targets = [Event(120, 2), Event(320, 3)]
    events = make_events([targets, [Event(110, item) for item in range(4, 10)] + later])
    recipe = replace(
        load_recipe(RECIPE), history=replace(load_recipe(RECIPE).history, min_events=0)
    )
    slates = part_slates(events, recipe, part)
    source = batch_source(events, recipe, part)

    drawn = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        _, found = source.batch(slates, np.flatnonzero(slates.user == 0), rng)
        drawn |= set(found.items[found.mask & (found.event < 0)].tolist())

    assert drawn & set(range(4, 10))
    assert bool(drawn & set(range(12, 18))) == sees_new_items


def test_positives_whose_negatives_are_masked_stay() -> None:
    events = make_events([[Event(101, item) for item in range(2, 20)], [Event(150, 5)]])
    sampler = NegativeSampler(events, NegativeRule(popularity_power=1.0, same_category=0.0))
    slates = find_slates(events, "train", min_events=0, max_events=18)
    source = BatchSource(events, sampler, slate_events=18, per_positive=1)
    batch, _ = source.batch(slates, np.array([0]), np.random.default_rng(0))

    assert batch.mask[0].tolist() == [True] * 18 + [False] * 18
    assert (batch.slate.items > 0).all()
