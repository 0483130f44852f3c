"""Names, shapes and kinds of the tensors of a user's state, and how many of their rows a record holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

RecordDtype = Literal["fp32", "fp16", "int8"]
RECORD_DTYPES: tuple[RecordDtype, ...] = get_args(RecordDtype)
Filled = Literal["all", "first", "last"]
FILLED: tuple[Filled, ...] = get_args(Filled)
Ids = Literal["any", "rows", "ages", "rows and ages"]
IDS: tuple[Ids, ...] = get_args(Ids)
Folds = Literal["", "sum"]
Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a user's state.

    Attributes:
        name: name of the tensor and of an output of the encode graph; must differ from its inputs' names ("ages").
        shape: shape without the batch axis.
        kind: "float" numbers are stored in the record's dtype, "int32" ids and bits unchanged in every dtype.
        filled: rows (along axis 0) that a user's state fills: "all"; the "first", with empty rows behind them (slots);
            or the "last", with empty rows before them (right-aligned histories). Empty rows are all 0 and are not
            stored. A row of zeros among the filled ones is stored.
        folds: "sum" if the tensor is a sum over events, so that one can be added or taken away; else empty. Specs that
            differ in this alone are equal, too.
        ids: what int32 numbers are, so that those of a record can be checked: "rows" of the catalogue; "ages", buckets
            of `age.py`; "rows and ages", row · `NUM_AGES` + age; or "any" number, as in artifacts that do not say it.
            Specs that differ in this alone are equal: their records are the same.

    Raises:
        ValueError: `filled` or `ids` is not one of these; `filled` is not "all" for a tensor without axes; or `ids` is
            not "any" for floats.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["float", "int32"] = "float"
    filled: Filled = "all"
    ids: Ids = field(default="any", compare=False)
    folds: Folds = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.ids not in IDS or (self.kind == "float" and self.ids != "any"):
            raise ValueError(
                f"ids of state {self.name!r}: got {self.ids!r} for {self.kind}, expected one of {IDS}, "
                "and 'any' for floats"
            )
        if self.filled not in FILLED or (self.has_row_count and not self.shape):
            raise ValueError(
                f"filled of state {self.name!r}: got {self.filled!r} for shape {self.shape}, expected one of {FILLED}, "
                "and an axis for those but 'all'"
            )

    @property
    def has_row_count(self) -> bool:
        """Whether records hold a row count, since they may leave rows out."""
        return self.filled != "all"

    @property
    def num_rows(self) -> int:
        """Number of rows, filled or empty."""
        return self.shape[0] if self.shape else 1

    def part(self, values: Array, rows: int) -> Array:
        """View of the rows of a whole tensor that a record with `rows` rows holds."""
        if self.filled == "first":
            return values[:rows]
        return values[self.num_rows - rows :] if self.filled == "last" else values

    def filled_rows(self, values: Array) -> int:
        """Number of rows that a record holds.

        A row of -0 counts as filled, so that records of fp32 and fp16 restore it. int8 has no -0: it is restored as 0.
        """
        if not self.has_row_count:
            return self.num_rows
        is_filled = values != 0
        if self.kind == "float":
            is_filled |= np.signbit(values)
        places = np.flatnonzero(is_filled.any(tuple(range(1, values.ndim))))
        if not places.size:
            return 0
        return int(places[-1]) + 1 if self.filled == "first" else self.num_rows - int(places[0])

    def stored_bytes(self, dtype: RecordDtype, rows: int | None = None) -> int:
        """Bytes in a record without the row count.

        int8 has an fp16 scale per row of the last axis; vectors stay fp16, since they are counts or totals.

        Args:
            dtype: dtype of the record.
            rows: number of stored rows; None: all.
        """
        stored = self.num_rows if rows is None else rows
        size = stored * math.prod(self.shape[1:])
        if dtype == "fp32" or self.kind == "int32":
            return 4 * size
        if dtype == "fp16" or len(self.shape) < 2:
            return 2 * size
        return size + 2 * (size // self.shape[-1])


StateSpec = tuple[TensorSpec, ...]


def whole_rows(spec: StateSpec) -> list[int]:
    """Number of rows of each tensor, filled or empty."""
    return [tensor.num_rows for tensor in spec]


def stored_rows(state: Mapping[str, Array], spec: StateSpec) -> list[int]:
    """Number of rows of each tensor that a user's record holds, in the order of the spec."""
    return [tensor.filled_rows(state[tensor.name]) for tensor in spec]


def stack_states(states: Sequence[Mapping[str, Array]], spec: StateSpec) -> dict[str, Array]:
    """Stack the states of single users along a new batch axis."""
    return {tensor.name: np.stack([state[tensor.name] for state in states]) for tensor in spec}
