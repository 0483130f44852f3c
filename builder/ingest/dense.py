"""Raw values -> dense ids. Values that training does not see share the id UNKNOWN."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.ingest.kinds import encode_kind
from builder.recipe.field_rules import CATEGORICAL, FieldRule
from models.contract.field_reader import KindReader
from models.contract.schema import FIRST_KNOWN, UNKNOWN, Field

Values = dict[str, list[str]]
"""Field -> raw values in the order of their dense ids, from `FIRST_KNOWN` on."""
Readers = dict[str, KindReader]
"""Field that is not categorical -> how its values become ids."""


class Encoded(NamedTuple):
    """Columns as dense ids.

    Attributes:
        ids: [rows, columns].
        values: what the ids stand for.
        readers: of the fields that are not categorical.
    """

    ids: NDArray[np.int32]
    values: Values
    readers: Readers


def encode_columns(
    frame: pl.DataFrame,
    columns: Mapping[str, str],
    in_training: pl.Series,
    rules: Mapping[str, FieldRule],
    times_s: NDArray[np.int64] | None = None,
) -> Encoded:
    """Dense ids of columns, and the values they stand for.

    Args:
        frame: the rows.
        columns: field name -> column.
        in_training: rows whose values training sees; other values become UNKNOWN.
        rules: field name -> what its values are; fields without a rule are categorical.
        times_s: epoch second of each row, from which ages are measured; None: no field is a date.
    """
    values: Values = {}
    readers: Readers = {}
    ids = np.empty((len(frame), len(columns)), np.int32)
    for place, (name, column) in enumerate(columns.items()):
        rule = rules.get(name, CATEGORICAL)
        if rule.kind == "categorical":
            values[name] = _known(frame[column], in_training)
            ids[:, place] = dense_ids(frame[column], values[name])
        else:
            ids[:, place], values[name], readers[name] = encode_kind(
                name, frame[column], in_training, rule, times_s
            )
    return Encoded(ids, values, readers)


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
