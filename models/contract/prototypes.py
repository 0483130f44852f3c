"""Rows of the catalogue for items that a build does not know: one for each combination of item fields that it does.

A prototype has the vectors of its fields and nothing of an item's own: no part of the id, no bias. A new item is scored
as the prototype that has most of its fields' values. Prototypes lie behind the items, so that engines and graphs treat
them as any other row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from models.contract.errors import RequestError, did_you_mean
from models.contract.field_reader import (
    FieldReader,
    KindReader,
    WordReader,
    readers_from_json,
    readers_to_json,
)
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN

Key = tuple[int, ...]
"""Dense ids of a row's fields, in the order of the recipe; `PADDING` where a field is left out."""


@dataclass(frozen=True)
class Prototypes:
    """Combinations of item fields.

    Attributes:
        fields: item field -> its raw values in the order of their dense ids, from `FIRST_KNOWN` on. The first field
            counts most where a new item shares as many values with several combinations.
        rows: dense ids of each combination, as in the catalogue; `PADDING` where a field is left out.
        readers: field -> how its values become ids, for fields that are not categorical.
    """

    fields: Mapping[str, Sequence[str]]
    rows: Sequence[Sequence[int]]
    readers: Mapping[str, KindReader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = [len(values) + FIRST_KNOWN for values in self.fields.values()]
        for row in self.rows:
            if len(row) != len(limits) or not all(_is_id(*pair) for pair in zip(row, limits)):  # noqa: B905 - compared above
                raise ValueError(
                    f"prototypes: got {row}, expected an id for each of {list(self.fields)}"
                )

    def __len__(self) -> int:
        """Number of combinations."""
        return len(self.rows)

    def unknown(self, values: Mapping[str, str]) -> list[str]:
        """Fields whose value no item of the catalogue had in training; in the order of the recipe."""
        return [
            name
            for name, reader in self._readers.items()
            if name in values and reader.id(values[name]) == UNKNOWN
        ]

    def find(self, values: Mapping[str, str]) -> int | None:
        """Place of the combination that has most of the values; None if none has any.

        Args:
            values: item field -> raw value; other names are ignored, so that one item may be for several models.
        """
        known = [
            reader.id(values[name]) if name in values else PADDING
            for name, reader in self._readers.items()
        ]
        key = tuple(PADDING if dense == UNKNOWN else dense for dense in known)
        for mask in self._masks:
            # A combination with a field that the item lacks would say something of the item that is not known.
            if all(key[at] for at in mask):
                place = self._places.get(_masked(key, mask))
                if place is not None:
                    return place
        return None

    def named(self, place: int) -> dict[str, str]:
        """Field -> raw value of a combination, without those that are left out."""
        pairs = zip(self.fields.items(), self.rows[place], strict=True)
        return {name: values[dense - FIRST_KNOWN] for (name, values), dense in pairs if dense}

    def to_json(self) -> dict[str, Any]:
        """The combinations in JSON types."""
        fields = {name: list(values) for name, values in self.fields.items()}
        found = {"fields": fields, "rows": [list(row) for row in self.rows]}
        return {**found, "readers": readers_to_json(self.readers)} if self.readers else found

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Prototypes":
        """Inverse of `to_json`."""
        readers = readers_from_json(fields.get("readers", {}))
        return cls(**{**fields, "readers": readers})

    # Made at the first new item: most processes never need them.
    @cached_property
    def _readers(self) -> dict[str, FieldReader]:
        return {
            name: self.readers.get(name)
            or WordReader({value: dense for dense, value in enumerate(values, FIRST_KNOWN)})
            for name, values in self.fields.items()
        }

    @cached_property
    def _places(self) -> dict[Key, int]:
        return {tuple(row): place for place, row in enumerate(self.rows)}

    @cached_property
    def _masks(self) -> list[tuple[int, ...]]:
        """Which fields combinations have: those with most fields first, then those with the first fields."""
        masks = {tuple(at for at, dense in enumerate(row) if dense) for row in self._places}
        return sorted(filter(None, masks), key=lambda mask: (-len(mask), mask))


def check_item_fields(
    where: str,
    names: Mapping[str, object],
    known: Mapping[str, object],
    *,
    is_any_model: bool = True,
) -> None:
    """Check that all names are among the item fields of some models.

    Args:
        where: the field of the request, for the error.
        names: what came.
        known: the item fields.
        is_any_model: whether any model serves, for the error.

    Raises:
        RequestError: one is not; the error lists the fields.
    """
    for name in names:
        if name not in known:
            listed = f"a field among: {', '.join(known)}{did_you_mean(name, known)}"
            raise RequestError(where, name, listed if known else _no_field(is_any_model))


def _no_field(is_any_model: bool) -> str:
    if is_any_model:
        return "no field: no model that serves has item fields"
    return "a model that serves; none does yet: publish one first"


def _is_id(dense: object, limit: int) -> bool:
    return type(dense) is int and (dense == PADDING or FIRST_KNOWN <= dense < limit)


def _masked(key: Key, mask: Sequence[int]) -> Key:
    return tuple(dense if at in mask else PADDING for at, dense in enumerate(key))
