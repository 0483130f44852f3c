"""Fits the buckets of a numeric field to the numbers that training sees."""

import logging

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.errors import EventsError
from builder.recipe.field_rules import FieldRule
from models.contract.errors import shown
from models.contract.field_reader import MISSING, NumberReader, Numbers, read_numbers

logger = logging.getLogger(__name__)


def encode_numbers(
    name: str, values: pl.Series, in_training: pl.Series, rule: FieldRule
) -> tuple[NDArray[np.int32], list[str], NumberReader]:
    """Dense ids of a column of texts, the names of the ids, and how they were found.

    Args:
        name: of the field, for errors.
        values: texts, null where a row has none, [rows].
        in_training: rows whose numbers decide the buckets, [rows].
        rule: of the field.

    Raises:
        EventsError: no row that training sees holds a number.
    """
    texts = values.fill_null(MISSING)
    distinct = texts.unique()
    read = pl.Series(read_numbers(distinct.to_list()), dtype=pl.Float64)
    numbers = texts.replace_strict(distinct, read, return_dtype=pl.Float64).to_numpy()
    _report(name, texts, numbers)
    trained = numbers[in_training.to_numpy()]
    finite = trained[np.isfinite(trained)]
    if not len(finite):
        raise EventsError(
            f"field {name!r}",
            'kind "numeric": got no number in the rows to train on, expected at least one',
        )
    reader, names = fit(finite, bool(np.isnan(trained).any()), rule)
    return reader.ids_of_numbers(numbers).astype(np.int32), names, reader


def fit(numbers: Numbers, has_missing: bool, rule: FieldRule) -> tuple[NumberReader, list[str]]:
    """Buckets for numbers, and the name of each id: the smallest number that training put there.

    A name is a number of its own bucket, so that whatever draws values from a vocabulary draws numbers.

    Args:
        numbers: finite, at least one.
        has_missing: whether training has rows without a number.
        rule: of the field.
    """
    distinct, counts = np.unique(numbers, return_counts=True)
    cells = _cells(distinct, counts, rule)
    last = np.flatnonzero(np.diff(cells))
    below, above = distinct[last], distinct[last + 1]
    # Half-way, so that a number that is written with less precision (float32) is still in its bucket.
    middle = below / 2 + above / 2
    edges = np.where((middle > below) & (middle <= above), middle, above)
    names = [_text(number) for number in distinct[np.concatenate([[0], last + 1])].tolist()]
    return NumberReader(tuple(edges.tolist()), has_missing), [MISSING] * has_missing + names


def _cells(distinct: Numbers, counts: NDArray[np.integer], rule: FieldRule) -> NDArray[np.floating]:
    """Cell of each distinct number, not falling, at most `rule.buckets` different ones."""
    if len(distinct) <= rule.buckets:
        return np.arange(len(distinct), dtype=np.float64)
    if rule.transform == "quantile":
        place = (np.cumsum(counts) - counts / 2) / counts.sum()
    else:
        # log(1 + |x| / unit) on both sides of 0, so that 0 and negative numbers have buckets, too.
        is_zero = distinct == 0
        height = np.log(np.where(is_zero, 1.0, np.abs(distinct)))
        above_unit = np.logaddexp(
            0.0, height - height[~is_zero].min()
        )  # no quotient, which may overflow
        logarithm = np.sign(distinct) * above_unit
        place = (logarithm - logarithm[0]) / (logarithm[-1] - logarithm[0])
    cells: Numbers = np.minimum(np.floor(place * rule.buckets), rule.buckets - 1)
    return cells


def _text(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else str(number)


def _report(name: str, texts: pl.Series, numbers: Numbers) -> None:
    is_wrong = np.isinf(numbers)
    if is_wrong.any():
        template = "field %r: %d of %d rows hold no number (first: %s); they are unknown values"
        first = shown(texts[int(is_wrong.argmax())])
        logger.warning(template, name, int(is_wrong.sum()), len(numbers), first)
