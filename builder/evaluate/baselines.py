"""Both baselines on a recipe's targets. Needs scikit-learn and LightGBM, which no other part of the evaluation does."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from builder.dataset.batches import Part, Targets
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.baseline_counts import measure_counts
from builder.evaluate.baseline_trees import measure_trees
from builder.evaluate.metrics import Metrics
from builder.evaluate.predict import EVALUATION_SLATES, SEED
from builder.ingest.events import Events
from builder.recipe.recipe import Recipe

COUNTS_STEPS = 200
"""Training batches of the counts baseline: about 60,000 targets for a handful of weights."""
TREES_STEPS = 600
"""Training batches of the trees baseline, and the most validation batches that it stops by."""


@dataclass(frozen=True)
class Baselines:
    """Metrics of the baselines on the model's own test targets.

    Attributes:
        counts: logistic regression on counts (`baseline_counts.py`).
        trees: boosted trees on counts and ages (`baseline_trees.py`).
    """

    counts: Metrics
    trees: Metrics


def measure_baselines(events: Events, recipe: Recipe) -> Baselines:
    """Fit and measure both baselines."""

    def targets(part: Part, limit: int | None = None) -> Iterator[Targets]:
        source, slates = batch_source(events, recipe, part), part_slates(events, recipe, part)
        rng = np.random.default_rng(SEED)
        shuffle = limit is not None
        for step, (_, batch_targets) in enumerate(
            source.epoch(slates, EVALUATION_SLATES, rng, shuffle=shuffle)
        ):
            if step == limit:
                return
            yield batch_targets

    counts = measure_counts(events, targets("train", COUNTS_STEPS), targets("test"))
    trees = measure_trees(
        events, targets("train", TREES_STEPS), targets("validate", TREES_STEPS), targets("test")
    )
    return Baselines(counts, trees)
