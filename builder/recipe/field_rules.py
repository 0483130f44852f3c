"""`[data.fields]` of a recipe: what the values of a field are, where they are more than words."""

from dataclasses import dataclass
from typing import Annotated, Literal

from builder.recipe.limits import Interval


@dataclass(frozen=True)
class FieldRule:
    """What the values of one field are: `[data.fields.NAME]`. Fields without such a table are categorical."""

    kind: Literal["categorical", "numeric", "boolean", "date"] = "categorical"
    """categorical: every text is a value of its own. numeric: numbers are put into buckets, and a bucket is a value.
    boolean: true, yes, 1 and their like are one value. date: the age in days when an event or a request comes, in
    buckets; for fields of the context and of candidates."""
    buckets: Annotated[int, Interval(ge=2, le=4096)] = 32
    """numeric, date: largest number of buckets. They are fitted to the numbers of the training part alone."""
    transform: Literal["quantile", "log"] | None = None
    """numeric, date: quantile: buckets hold about equally many rows. log: buckets are equally wide in the logarithm,
    for counts and prices whose rare large numbers matter. Unset: quantile for numbers, log for dates."""


CATEGORICAL = FieldRule()
