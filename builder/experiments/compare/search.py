"""What a comparison's search tries with each variant: its learning rates one by one, or draws from several lists."""

from collections.abc import Sequence
from dataclasses import asdict
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
    config = make_config(variant.model.name, variant.model.config)
    keys = [key for key in search.model if key in asdict(config) and getattr(config, key)]
    decays = search.weight_decay or (rule.weight_decay,)
    pairs = _distinct_pairs(search.learning_rate, decays, search.trials)
    others = [_draws(key, search.model[key], search.trials) for key in keys]
    return [
        Setting(rate, decay, dict(zip(keys, values, strict=True)))
        for (rate, decay), *values in zip(pairs, *others, strict=True)
    ]


def _distinct_pairs(
    rates: Sequence[float], decays: Sequence[float], count: int
) -> list[tuple[float, float]]:
    """Of a rate and a decay, no two alike: else a variant with no other key would have fewer trials than one with."""
    for attempt in range(1000):
        drawn = [
            _draws(name, values, count, *([attempt] if attempt else []))
            for name, values in (("learning_rate", rates), ("weight_decay", decays))
        ]
        pairs = list(zip(*drawn, strict=True))
        if len(set(pairs)) == count:
            return pairs
    every = [(rate, decay) for rate in rates for decay in decays]
    order = np.random.default_rng(TRIAL_SEED).permutation(len(every))
    return [every[place] for place in order[:count]]


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
