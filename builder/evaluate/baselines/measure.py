"""Both baselines on a recipe's slates. Needs LightGBM, which no other part of the evaluation does."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from builder.dataset.batches import Part
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.baselines.base import BaselineModel, Describer, collect
from builder.evaluate.baselines.counts import count_features, fit_counts
from builder.evaluate.baselines.trees import fit_trees, tree_features
from builder.evaluate.measure import Measured, measure_model
from builder.evaluate.metrics.targets import Metrics
from builder.evaluate.predict import EVALUATION_SLATES, SEED
from builder.evaluate.slate_evaluation import TEST_SLATES, Vectors
from builder.ingest.events import Events
from builder.recipe.recipe import Recipe
from models.batch import Batch

COUNTS_STEPS = 200
"""Training batches of the counts baseline: about 60,000 targets, or a million with pools, for some dozen weights."""
TREES_STEPS = 600
"""Training batches of the trees baseline, and the most validation batches that it stops by."""


@dataclass(frozen=True)
class Baselines:
    """Metrics of the baselines on the model's own test targets.

    Attributes:
        counts: logistic regression on counts (`counts.py`).
        trees: boosted trees on counts and ages (`trees.py`).
        vectors: "counts" and "trees" -> metrics of each slate; not part of JSON files.
        cuts: "counts" and "trees" -> `cuts`, `by_history` and `reliability`, as in `Report`.
    """

    counts: Metrics
    trees: Metrics
    vectors: dict[str, Vectors] = field(default_factory=dict, compare=False, repr=False)
    cuts: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Metrics and groups of both in JSON types."""
        metrics = {"counts": asdict(self.counts), "trees": asdict(self.trees)}
        return {name: {**own, **self.cuts.get(name, {})} for name, own in metrics.items()}


def measure_baselines(
    events: Events,
    recipe: Recipe,
    test_slates: int = TEST_SLATES,
    trees_steps: int = TREES_STEPS,
) -> Baselines:
    """Fit both baselines on batches of the training part and measure them as a model is measured.

    Args:
        events: the log.
        recipe: says what is sampled.
        test_slates: number of slates whose whole pools are measured, in a log with pools.
        trees_steps: batches that the trees are fitted on.
    """
    describer, sizes = Describer(events), [field.size for field in events.schema.candidate_fields]
    counted = count_features(sizes)
    logistic = fit_counts(
        collect(_batches(events, recipe, "train", COUNTS_STEPS), describer, counted)
    )
    trees = fit_trees(
        collect(_batches(events, recipe, "train", trees_steps), describer, tree_features),
        collect(_batches(events, recipe, "validate", trees_steps), describer, tree_features),
        len(sizes),
    )
    source, slates = batch_source(events, recipe, "test"), part_slates(events, recipe, "test")
    measured = {
        name: measure_model(model, source, slates, count=test_slates)
        for name, model in {
            "counts": BaselineModel(describer, counted, logistic),
            "trees": BaselineModel(describer, tree_features, trees),
        }.items()
    }
    return Baselines(
        measured["counts"].test,
        measured["trees"].test,
        {name: each.vectors for name, each in measured.items()},
        {name: _groups(each) for name, each in measured.items()},
    )


def _groups(measured: Measured) -> dict[str, Any]:
    return {
        "cuts": {
            cut: {name: asdict(group) for name, group in groups.items()}
            for cut, groups in measured.cuts.items()
        },
        "by_history": {name: asdict(group) for name, group in measured.by_history.items()},
        "reliability": measured.reliability,
    }


def _batches(events: Events, recipe: Recipe, part: Part, limit: int) -> Iterator[Batch]:
    source, slates = batch_source(events, recipe, part), part_slates(events, recipe, part)
    rng = np.random.default_rng(SEED)
    epoch = source.epoch(slates, EVALUATION_SLATES, rng, shuffle=True)
    for step, (batch, _) in enumerate(epoch):
        if step == limit:
            return
        yield batch
