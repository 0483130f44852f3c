"""The slates of each part (train, validate, test) and their batches, under a recipe's rules."""

from functools import lru_cache

import numpy as np

from builder.dataset.batches import BatchSource, Part, Slates, find_slates
from builder.dataset.negatives import NegativeSampler
from builder.ingest.events import Events
from builder.recipe.negatives import NegativeRule
from builder.recipe.recipe import Recipe


def part_slates(events: Events, recipe: Recipe, part: Part) -> Slates:
    """All slates of a part that have enough history."""
    return find_slates(
        events,
        part,
        min_events=recipe.history.min_events,
        max_events=recipe.train.positives_per_slate,
    )


def train_slates(events: Events, recipe: Recipe) -> Slates:
    """Slates to train on: the recipe's share of the part, drawn with the recipe's seed."""
    slates = part_slates(events, recipe, "train")
    share = recipe.train.share
    if share == 1:
        return slates
    order = np.random.default_rng(recipe.train.seed).permutation(len(slates))
    return slates.at(np.sort(order[: max(1, round(share * len(slates)))]))


def batch_source(events: Events, recipe: Recipe, part: Part) -> BatchSource:
    """Batches of a part. Negatives are drawn by the recipe's rule unless the log has its own, or pools."""
    is_training = part == "train"
    has_own = events.has_impressions or events.pools is not None
    sampler = None if has_own else _sampler(events, recipe.negatives, is_training)
    return BatchSource(
        events,
        sampler,
        slate_events=recipe.train.positives_per_slate,
        per_positive=recipe.negatives.per_positive,
        sampling=recipe.sampling,
    )


@lru_cache(maxsize=2)
def _sampler(events: Events, rule: NegativeRule, is_training: bool) -> NegativeSampler:
    """Cached: a comparison trains hundreds of models on one log, and sorting its events takes a second."""
    return NegativeSampler(events, rule, events.is_known() if is_training else None)
