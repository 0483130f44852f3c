"""Ids of fields that are no words: fits the buckets of numbers and of ages to what training sees."""

import logging
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.errors import EventsError
from builder.recipe.field_rules import FieldRule
from models.contract.errors import shown
from models.contract.field_reader import (
    MISSING,
    WORDS_OF,
    BooleanReader,
    DateReader,
    KindReader,
    NumberReader,
    Numbers,
    read_ages,
    read_numbers,
)

logger = logging.getLogger(__name__)
NOUNS = {"numeric": "number", "boolean": "truth value", "date": "date"}


def encode_kind(
    name: str,
    values: pl.Series,
    in_training: pl.Series,
    rule: FieldRule,
    times_s: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int32], list[str], KindReader]:
    """Dense ids of a column of texts, the names of the ids, and how they were found.

    Args:
        name: of the field, for errors.
        values: texts, null where a row has none, [rows].
        in_training: rows whose values decide the ids, [rows].
        rule: of the field.
        times_s: epoch second of each row, from which ages are measured, [rows].

    Raises:
        EventsError: no row that training sees holds a value of the kind.
    """
    texts = values.fill_null(MISSING)
    numbers = _read(name, texts, rule, times_s)
    _report(name, texts, numbers, rule)
    trained = numbers[in_training.to_numpy()]
    finite, has_missing = trained[np.isfinite(trained)], bool(np.isnan(trained).any())
    if not len(finite):
        raise EventsError(
            f"field {name!r}",
            f'kind "{rule.kind}": got no {NOUNS[rule.kind]} in the rows to train on, expected at least one',
        )
    if rule.kind == "boolean":
        seen = {MISSING: has_missing, "false": 0.0 in finite, "true": 1.0 in finite}
        truths = BooleanReader(tuple(one for one, is_seen in seen.items() if is_seen))
        return _ids_of_texts(texts, truths), list(truths.names), truths
    reader, names = fit(finite, has_missing, rule)
    ids = reader.ids_of_numbers(numbers).astype(np.int32)
    if rule.kind == "date":
        return ids, [_age(one) for one in names], DateReader(reader)
    return ids, names, reader


def _read(
    name: str, texts: pl.Series, rule: FieldRule, times_s: NDArray[np.int64] | None
) -> Numbers:
    """Numbers, ages, or 0 and 1; as `read_numbers` gives them."""
    if rule.kind == "date":
        if times_s is None:
            raise ValueError(f"field {name!r}: got dates in rows without times")
        return read_ages(texts.to_list(), times_s.astype(np.float64))
    distinct = texts.unique()
    read = _truths if rule.kind == "boolean" else read_numbers
    found = pl.Series(read(distinct.to_list()), dtype=pl.Float64)
    return texts.replace_strict(distinct, found, return_dtype=pl.Float64).to_numpy()


def _ids_of_texts(texts: pl.Series, reader: BooleanReader) -> NDArray[np.int32]:
    distinct = texts.unique()
    ids = pl.Series(reader.ids(distinct.to_list()), dtype=pl.Int32)
    return texts.replace_strict(distinct, ids, return_dtype=pl.Int32).to_numpy()


def _truths(texts: Sequence[str]) -> Numbers:
    """1 for true, 0 for false, as `read_numbers` marks the others."""
    found = BooleanReader((MISSING, *WORDS_OF)).ids(texts)
    return np.array([np.nan, np.inf, np.nan, 0.0, 1.0])[found]


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
    if rule.transform == "quantile" or (rule.transform is None and rule.kind != "date"):
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


def _age(name: str) -> str:
    """Name of a bucket of ages, which is read as the age that it says: P12D, -P3D."""
    return name if name == MISSING else f"-P{name[1:]}D" if name.startswith("-") else f"P{name}D"


def _report(name: str, texts: pl.Series, numbers: Numbers, rule: FieldRule) -> None:
    is_wrong = np.isinf(numbers)
    if is_wrong.any():
        template = "field %r: %d of %d rows hold no %s (first: %s); they are unknown values"
        first = shown(texts[int(is_wrong.argmax())])
        logger.warning(template, name, int(is_wrong.sum()), len(numbers), NOUNS[rule.kind], first)
