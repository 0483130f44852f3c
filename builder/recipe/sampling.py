"""The `[sampling]` section of a recipe: how candidates are drawn from pools."""

from dataclasses import dataclass
from typing import Annotated

from builder.recipe.limits import Interval


@dataclass(frozen=True)
class SamplingRule:
    """How many candidates of a pool are used in training and validation. Logs with known candidates only.

    The loss is corrected for what is left out, so that probabilities are those of whole pools. Tests use whole pools.
    """

    positives: Annotated[int, Interval(ge=1)] = 12
    """Largest number of positives of a slate. Of more, a random run is taken, with the weight of all."""
    negatives: Annotated[int, Interval(ge=1)] = 48
    """Negatives of a slate: drawn uniformly, with replacement, from the rest of its pool."""
    with_positives: Annotated[float, Interval(gt=0, lt=1)] = 0.75
    """Share of a training batch's slates that have a positive. Their weight in the loss is their share in the log."""
