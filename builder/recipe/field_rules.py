"""`[data.fields]` of a recipe: what the values of a field are, where they are more than words."""

from dataclasses import dataclass
from typing import Annotated, Literal

from builder.recipe.limits import Interval


@dataclass(frozen=True)
class FieldRule:
    """What the values of one field are: `[data.fields.NAME]`. Fields without such a table are categorical."""

    kind: Literal["categorical", "numeric"] = "categorical"
    """categorical: every text is a value of its own. numeric: numbers are put into buckets, and a bucket is a value."""
    buckets: Annotated[int, Interval(ge=2, le=4096)] = 32
    """numeric: largest number of buckets. They are fitted to the numbers of the training part alone."""
    transform: Literal["quantile", "log"] = "quantile"
    """numeric: quantile: buckets hold about equally many rows. log: buckets are equally wide in the logarithm, for
    counts and prices whose rare large numbers matter."""


CATEGORICAL = FieldRule()
