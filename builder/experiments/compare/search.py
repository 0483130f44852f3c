"""What a comparison's search tries with each variant: its learning rates one by one, or draws from several lists."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from builder.recipe.models import Setting, Variant
from builder.recipe.recipe import Recipe
from models.registry import make_config

TRIAL_SEED = 10_000
"""Of the search: none of the reported seeds, which count from 0."""


def settings(recipe: Recipe, variant: Variant) -> list[Setting]:
    """What a search tries with a variant; none without a search, or for a variant with a learning rate of its own.

    Variants share their draws: trial i has the same learning rate and weight decay for all, and the same value of each
    key of a model's config for those that have it.
    """
    search, rule = recipe.search, recipe.train
    if "learning_rate" in variant.train:
        return []
    if search.trials is None:
        return [Setting(rate, rule.weight_decay) for rate in search.learning_rate]
    # By all variants alike, so that each has as many different trials.
    shared = [key for key in search.model if all(_has(other, key) for other in recipe.variant)]
    lists = {"learning_rate": search.learning_rate}
    lists["weight_decay"] = search.weight_decay or (rule.weight_decay,)
    lists |= {key: search.model[key] for key in shared}
    drawn = dict(zip(lists, zip(*_distinct(lists, search.trials), strict=True), strict=True))
    for key in search.model:
        if key not in shared:
            drawn[key] = tuple(_draws(key, search.model[key], search.trials))
    own = [key for key in search.model if _has(variant, key)]
    return [
        Setting(
            drawn["learning_rate"][trial],
            drawn["weight_decay"][trial],
            {key: drawn[key][trial] for key in own},
        )
        for trial in range(search.trials)
    ]


def _has(variant: Variant, key: str) -> bool:
    """Whether a variant's model has the key, and does not set it to 0 or false."""
    return bool(getattr(make_config(variant.model.name, variant.model.config), key, False))


def _distinct(lists: Mapping[str, Sequence[Any]], count: int) -> list[tuple[Any, ...]]:
    """Draws of a value from each list, no two draws alike if the lists have as many combinations."""
    for attempt in range(1000):
        columns = [
            _draws(name, values, count, *([attempt] if attempt else []))
            for name, values in lists.items()
        ]
        rows = list(zip(*columns, strict=True))
        if len(set(rows)) == count:
            return rows
    every = list(product(*lists.values()))
    order = np.random.default_rng(TRIAL_SEED).permutation(len(every))
    return [every[order[place % len(every)]] for place in range(count)]


def _draws(name: str, values: Sequence[Any], count: int, *seed: int) -> list[Any]:
    """`count` of the values in an order of the name's own, each as often as the others, or once more."""
    rng = np.random.default_rng([TRIAL_SEED, *name.encode(), *seed])
    rounds = [rng.permutation(len(values)) for _ in range(-(-count // len(values)))]
    return [values[place] for place in np.concatenate(rounds)[:count]]


def in_words(setting: Setting) -> str:
    """For messages and the names of files."""
    parts = [f"{setting.learning_rate:g}"]
    parts += [f"decay {setting.weight_decay:g}"] if setting.weight_decay else []
    return ", ".join([*parts, *(f"{key} {value}" for key, value in setting.config.items())])
