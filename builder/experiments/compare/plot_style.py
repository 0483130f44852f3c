"""Colours and marks that a comparison's pictures share."""

from collections.abc import Sequence

from builder.experiments.compare.table import Estimate, Row
from builder.recipe.models import Family
from models.contract.state_spec import RecordDtype

COLORS: dict[Family, str] = {
    "lrea": "C0",
    "two-stage": "C1",
    "full": "C3",
    "stacked": "C5",
    "pooled": "C2",
    "none": "0.4",
    "control": "C4",
    "ablation": "C9",
}
DTYPE_MARKS: dict[RecordDtype, str] = {"fp32": "o", "fp16": "s", "int8": "v"}
MARKS = "osD^vP*Xh<>p"
"""Tell apart the models of a family."""


def marks(rows: Sequence[Row]) -> list[str]:
    """One for each row, its own within its family."""
    families = [row.family for row in rows]
    places = [families[:place].count(family) for place, family in enumerate(families)]
    return [MARKS[place % len(MARKS)] for place in places]


def mean_of(value: Estimate | None) -> float:
    """0 without one."""
    return value.mean if value else 0.0


def half_of(value: Estimate | None) -> float:
    """Half of the interval, 0 without one."""
    return (value.half or 0.0) if value else 0.0
