"""Limits of a recipe's numbers. Training reads recipes where pydantic is not installed, so nothing is imported here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

NOT_A_KEY = {"not a key": True}
"""Metadata of a dataclass field that no file may set."""


@dataclass(frozen=True)
class Interval:
    """The limits of a number in `Annotated`. pydantic takes it for `annotated_types.Interval`, by its attribute.

    Attributes:
        gt: the number is above it.
        ge: the number is at least it.
        lt: the number is below it.
        le: the number is at most it.
    """

    gt: float | int | None = None
    ge: float | int | None = None
    lt: float | int | None = None
    le: float | int | None = None
    __is_annotated_types_grouped_metadata__ = True

    def __iter__(self) -> Iterator[Any]:
        """The limits as `annotated_types`, for pydantic."""
        import annotated_types  # here: only pydantic asks for it

        kinds = {"gt": annotated_types.Gt, "ge": annotated_types.Ge}
        kinds |= {"lt": annotated_types.Lt, "le": annotated_types.Le}
        for name, kind in kinds.items():
            if getattr(self, name) is not None:
                yield kind(getattr(self, name))


Share = Annotated[float, Interval(ge=0, le=1)]
"""A number from 0 to 1."""
OpenShare = Annotated[float, Interval(gt=0, le=1)]
"""A number above 0 and at most 1."""
