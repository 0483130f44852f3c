"""python -m builder scaling: how log loss and 1 − AUC fall with the weights of a model and with the data it saw.

The trainings are a comparison's (`experiments/compare`): its variants are the grades, and its sweep of `train.share`
is the amount of data.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from builder.dataset.parts import train_slates
from builder.errors import RecipeError
from builder.experiments.compare.table import Comparison, Estimate, Row, estimate
from builder.experiments.scaling.power_law import LEAST_POINTS, PowerLaw, fit_power_law
from builder.ingest.events import Events
from builder.recipe.models import SHARE
from builder.recipe.recipe import Recipe
from models.registry import build_model
from models.sequence.suan import SUAN

WEIGHTS, TARGETS = "weights of the blocks", "training targets seen"
LOSSES: Mapping[str, Callable[[Mapping[str, float]], float]] = {
    "log loss": lambda metrics: metrics["log_loss"],
    "1 − AUC": lambda metrics: 1 - metrics["auc"],
}
"""What is fitted: name -> of the metrics on the test period."""


@dataclass(frozen=True)
class Point:
    """A grade, or an amount of data.

    Attributes:
        label: of the variant, or its share of the data.
        size: weights or targets.
        losses: name -> value by seed.
        seconds: median to train.
        learning_rate: it was trained with.
    """

    label: str
    size: float
    losses: Mapping[str, Mapping[int, float]]
    seconds: float
    learning_rate: float

    def mean(self, loss: str) -> Estimate:
        """Over seeds, with its interval.

        Raises:
            ValueError: there is no value.
        """
        mean = estimate(list(self.losses[loss].values()))
        if mean is None:
            raise ValueError(f"{self.label}: got no training, expected at least one")
        return mean


@dataclass(frozen=True)
class Fit:
    """One loss along one axis.

    Attributes:
        law: of the means of all points.
        exponents: b of a fit for each seed alone: mean and interval.
        without_last: law of all points but the largest; None with too few points.
        predicted: by it, at the largest.
        measured: there.
    """

    law: PowerLaw
    exponents: Estimate | None
    without_last: PowerLaw | None
    predicted: float | None
    measured: Estimate


@dataclass(frozen=True)
class Axis:
    """Points along one axis, by rising size, and their fits by loss."""

    name: str
    points: Sequence[Point]
    fits: Mapping[str, Fit]


def find_axes(comparison: Comparison, recipe: Recipe, events: Events) -> list[Axis]:
    """Weights, and data where the recipe sweeps it; axes with fewer than `LEAST_POINTS` trained points are left out.

    Raises:
        RecipeError: a variant has no blocks whose weights could be counted.
    """
    grades = [_point(row.label, _num_weights(row, recipe, events), row) for row in comparison.rows]
    axes = {WEIGHTS: grades}
    for sweep in comparison.sweeps:
        if sweep.key == SHARE:
            axes[TARGETS] = [
                _point(f"{value:g}", targets_seen(row, value, recipe, events), row)
                for value, row in sweep.rows
            ]
    return [
        _axis(name, points)
        for name, points in axes.items()
        if len({point.size for point in points}) >= LEAST_POINTS
    ]


def targets_seen(row: Row, share: float, recipe: Recipe, events: Events) -> float:
    """Different positive targets that the trainings of a row saw, mean over seeds."""
    rule = recipe.train
    seen = []
    for outcome in row.outcomes:
        of_seed = replace(recipe, train=replace(rule, share=share, seed=outcome["seed"]))
        slates = train_slates(events, of_seed)
        part = min(1.0, outcome["steps"] * rule.slates_per_step / len(slates))
        seen.append(part * float((slates.end - slates.begin).sum()))
    return float(np.mean(seen))


def _num_weights(row: Row, recipe: Recipe, events: Events) -> float:
    item_fields = torch.from_numpy(np.array(events.item_fields))
    model = build_model(row.model.name, events.schema, item_fields, row.model.config)
    if not isinstance(model, SUAN):
        problem = f"variant {row.label!r}: {row.model.name} has no blocks to count, expected suan or light_suan"
        raise RecipeError(str(recipe.path), [problem])
    return float(model.num_block_weights)


def _point(label: str, size: float, row: Row) -> Point:
    losses = {
        name: {outcome["seed"]: loss(outcome["test"]) for outcome in row.outcomes}
        for name, loss in LOSSES.items()
    }
    return Point(label, size, losses, row.seconds(), row.learning_rate)


def _axis(name: str, points: Sequence[Point]) -> Axis:
    ordered = sorted(points, key=lambda point: point.size)
    return Axis(name, ordered, {loss: _fit(ordered, loss) for loss in LOSSES})


def _fit(points: Sequence[Point], loss: str) -> Fit:
    x, y = [point.size for point in points], [point.mean(loss).mean for point in points]
    seeds = set.intersection(*(set(point.losses[loss]) for point in points))
    each = [fit_power_law(x, [point.losses[loss][seed] for point in points]) for seed in seeds]
    smaller = fit_power_law(x[:-1], y[:-1]) if len(set(x[:-1])) >= LEAST_POINTS else None
    return Fit(
        law=fit_power_law(x, y),
        exponents=estimate([law.exponent for law in each]),
        without_last=smaller,
        predicted=float(smaller(x[-1])) if smaller else None,
        measured=points[-1].mean(loss),
    )
