"""Raw values -> dense ids. Values that training does not see share the id UNKNOWN."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.contract.schema import FIRST_KNOWN, UNKNOWN, Field

Values = dict[str, list[str]]
"""Field -> raw values in the order of their dense ids, from `FIRST_KNOWN` on."""


def encode_columns(
    frame: pl.DataFrame, columns: Mapping[str, str], in_training: pl.Series
) -> tuple[NDArray[np.int32], Values]:
    """Dense ids of columns, [rows, columns], and the values they stand for.

    Args:
        frame: the rows.
        columns: field name -> column.
        in_training: rows whose values training sees; other values become UNKNOWN.
    """
    values = {name: _known(frame[column], in_training) for name, column in columns.items()}
    ids = np.empty((len(frame), len(columns)), np.int32)
    for place, (name, column) in enumerate(columns.items()):
        ids[:, place] = dense_ids(frame[column], values[name])
    return ids, values


def dense_ids(values: pl.Series, known: Sequence[str]) -> NDArray[np.int32]:
    """Place of each value in `known`, from `FIRST_KNOWN` on; UNKNOWN if absent. [rows]."""
    ids = np.arange(FIRST_KNOWN, FIRST_KNOWN + len(known), dtype=np.int32)
    dense = values.replace_strict(
        pl.Series(known, dtype=pl.String), ids, default=UNKNOWN, return_dtype=pl.Int32
    )
    return dense.to_numpy()


def schema_fields(values: Values) -> tuple[Field, ...]:
    """The fields and their numbers of dense ids."""
    return tuple(Field(name, len(known) + FIRST_KNOWN) for name, known in values.items())


def _known(values: pl.Series, in_training: pl.Series) -> list[str]:
    known: list[str] = values.filter(in_training).drop_nulls().unique().sort().to_list()
    return known
