"""Ids and values of many digits: a float cannot tell neighbours apart, and different users would become one."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builder.errors import EventsError
from builder.ingest.checks import require_negatives
from builder.ingest.events import Events
from tests.builder.ingest.refusals import refusal
from tests.builder.logs import ingest_at, log_frame, small_recipe, write_log

ROUNDED = r"got an id that was rounded to a float, so that different ids may have become one, in"


def ids(values: list[Any], dtype: Any, column: str = "user_id") -> pl.DataFrame:
    """The usual log with ids of these values in turn."""
    return log_frame().with_columns(pl.Series(column, values * (40 // len(values)), dtype))


def from_parquet(folder: Path, frame: pl.DataFrame, **data: Any) -> Events:
    frame.write_parquet(folder / "events.parquet")
    return ingest_at(small_recipe(folder, data={"events": "events.parquet", **data}))


@pytest.mark.parametrize("column", ["user_id", "item_id"])
@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.Float64, [1.0, 2.0, 2.0**53, 3.0]),
        (pl.Float64, [1.0, 2.0, -(2.0**53), 3.0]),
        (pl.Float64, [1.0, 2.0, 1e300, 3.0]),
        (pl.Float64, [1.0, 2.0, float("inf"), 3.0]),
        (pl.Float32, [1.0, 2.0, 2.0**24, 3.0]),
        (pl.String, ["1.0", "2.0", "9007199254740993.0", "3.0"]),
        (pl.String, ["1", "a", "1.2345678901234567e+18", "b"]),
        (pl.String, ["1", "2", "1e+18", "3"]),
    ],
)
def test_rounded_ids_are_refused_with_their_row(
    tmp_path: Path, column: str, dtype: Any, values: list[Any]
) -> None:
    with pytest.raises(
        EventsError, match=rf"column '{column}': {ROUNDED} 10 of 40 rows .* in row 3"
    ):
        from_parquet(tmp_path, ids(values, dtype, column))


def test_rounded_ids_of_a_csv_are_refused(tmp_path: Path) -> None:
    frame = ids([1.0, 2.0, 2.0**60, 2.0**60 + 2**9], pl.Float64)

    assert "rounded to a float" in refusal(tmp_path, frame)


@pytest.mark.parametrize(
    ("dtype", "values", "texts"),
    [
        (pl.Float64, [1.0, 2.0**53 - 1], {"1", "9007199254740991"}),
        (pl.Float32, [1.0, 2.0**24 - 1], {"1", "16777215"}),
        (pl.Int64, [2**53, 2**53 + 1], {"9007199254740992", "9007199254740993"}),
        (pl.UInt64, [2**64 - 1, 2**64 - 2], {"18446744073709551615", "18446744073709551614"}),
        (pl.Int128, [2**100, 2**100 + 1], {str(2**100), str(2**100 + 1)}),
        (pl.Decimal(38, 0), [2**53, 2**53 + 1], {"9007199254740992", "9007199254740993"}),
        (pl.Decimal(38, 2), [Decimal("7.00"), Decimal(2**53 + 1)], {"7", "9007199254740993"}),
        (pl.String, ["9007199254740993", "1e18"], {"9007199254740993", "1e18"}),
    ],
)
def test_ids_that_are_exact_stay_apart(
    tmp_path: Path, dtype: Any, values: list[Any], texts: set[str]
) -> None:
    assert set(from_parquet(tmp_path, ids(values, dtype)).user_ids) == texts


def test_decimals_with_a_fraction_are_no_ids_of_their_own_spelling(tmp_path: Path) -> None:
    frame = ids(
        [Decimal("7.50"), Decimal("0.00"), Decimal("100.00"), Decimal("-3.10")], pl.Decimal(38, 2)
    )

    assert set(from_parquet(tmp_path, frame).user_ids) == {"7.5", "0", "100", "-3.1"}


def test_long_values_of_a_field_are_not_unknown(tmp_path: Path) -> None:
    frame = log_frame().with_columns(pl.Series("price", [1.0, 1e300, float("inf"), 2.0] * 10))

    events = from_parquet(tmp_path, frame, context_fields=["price"])

    assert events.vocabulary.context["price"] == ["1.0", "1e+300", "2.0", "inf"]


@pytest.mark.parametrize("column", ["clicked", "pieces", "user_id", "place"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [(pl.Struct({"x": pl.Int64}), {"x": 1}), (pl.List(pl.Int64), [1]), (pl.Binary, b"1")],
)
def test_values_of_no_use_are_refused_with_their_type(
    tmp_path: Path, column: str, dtype: Any, value: Any
) -> None:
    frame = log_frame().with_columns(
        clicked=pl.Series([0, 1] * 20), pieces=pl.lit(1), place=pl.lit("x")
    )
    frame = frame.with_columns(pl.Series(column, [value] * 40, dtype))
    columns = {"label": "clicked", "quantity": "pieces"}

    with pytest.raises(EventsError, match=rf"column '{column}': got values of type .*, expected"):
        from_parquet(tmp_path, frame, columns=columns, context_fields=["place"])


@pytest.mark.parametrize(
    "dtype", [pl.Enum(["0", "1"]), pl.Categorical, pl.Boolean, pl.Decimal(4, 1)]
)
def test_labels_of_any_type_that_says_0_or_1_are_read(tmp_path: Path, dtype: Any) -> None:
    texts = pl.Series("clicked", ["0", "1", "1", "0"] * 10)
    labels = texts == "1" if dtype == pl.Boolean else texts.cast(dtype)

    events = from_parquet(
        tmp_path, log_frame().with_columns(labels.alias("clicked")), columns={"label": "clicked"}
    )

    assert events.label.sum() == 20


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        ([1] * 40, ["train", "validate", "test"]),
        ([0, 1] * 16 + [1] * 4 + [0, 1] * 2, ["validate"]),
        ([0, 1] * 18 + [1] * 4, ["test"]),
    ],
)
def test_parts_without_negatives_are_reported_and_not_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, labels: list[int], parts: list[str]
) -> None:
    frame = log_frame().with_columns(clicked=pl.Series(labels))
    recipe = write_log(tmp_path, frame, data={"columns": {"label": "clicked"}})

    events = ingest_at(recipe)

    told = [text for text in caplog.messages if "nothing tells them apart" in text]
    assert [text.split(" targets to ")[1].split(" on ")[0] for text in told] == parts
    if parts == ["validate"]:
        require_negatives(events, 0)
        return
    with pytest.raises(EventsError, match=f"got positives alone among the targets to {parts[0]}"):
        require_negatives(events, 0)


def test_a_log_of_positives_needs_no_label(tmp_path: Path) -> None:
    assert ingest_at(write_log(tmp_path, log_frame())).label.all()
