"""Slates, labels and histories against loops over the raw tables."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from builder.experiments.promotions.prepare import prepare
from builder.experiments.promotions.prepared import FIRST_WEEK, PARTS, Prepared

STORES = 2
"""Stores with promotions in the fixture's tables."""


def test_a_saved_task_is_read_back_as_it_was(prepared: Prepared, tmp_path: Path):
    prepared.save(tmp_path)
    again = Prepared.load(tmp_path)
    for name in Prepared.__dataclass_fields__:
        left, right = getattr(prepared, name), getattr(again, name)
        assert left.dtype == right.dtype, name
        assert np.array_equal(left, right), name


def test_slates_are_what_the_tables_say(prepared: Prepared, tables: Path):
    transactions, products, promotions = (
        pl.read_parquet(tables / f"{name}.parquet")
        for name in ("transactions", "products", "promotions")
    )
    number = [0, *sorted(products["product_id"])]
    shown = {
        key: set(group["product_id"]) for key, group in promotions.group_by("store_id", "week")
    }
    sales = transactions.filter(pl.col("store_id") < STORES)
    first_sale = dict(sales.group_by("product_id").agg(pl.col("week").min()).iter_rows())
    visits = transactions.group_by(
        "basket_id", "household_id", "store_id", "week", "transaction_timestamp"
    ).agg("product_id")
    visits = visits.filter((pl.col("week") >= FIRST_WEEK) & pl.col("store_id").is_in([0, 1]))
    visits = visits.sort("transaction_timestamp", "basket_id")
    assert len(visits) == len(prepared.week) > 300
    for visit, row in enumerate(visits.iter_rows(named=True)):
        pool = [number[r] for r in prepared.pool_row[prepared.pool_of(visit)]]
        promoted = shown[row["store_id"], row["week"]]
        assert set(pool) == {p for p in promoted if first_sale.get(p, 99) < row["week"]}
        bought = {p for p, y in zip(pool, prepared.labels_of(visit), strict=True) if y}
        assert bought == set(row["product_id"]) & set(pool)
        before = transactions.filter(
            (pl.col("household_id") == row["household_id"])
            & (pl.col("transaction_timestamp") < row["transaction_timestamp"])
        ).unique(["basket_id", "product_id"])
        history = prepared.event_row[prepared.start[visit] : prepared.end[visit]]
        assert sorted(number[r] for r in history) == sorted(before["product_id"])
        assert (
            prepared.event_hour[prepared.start[visit] : prepared.end[visit]] <= prepared.hour[visit]
        ).all()


def test_a_pool_has_only_products_that_its_stores_sold_before(tables: Path, tmp_path: Path):
    for name in ("products", "promotions"):
        (tmp_path / f"{name}.parquet").write_bytes((tables / f"{name}.parquet").read_bytes())
    every = pl.read_parquet(tables / "transactions.parquet")
    number, first_week = int(every["product_id"].sort()[0]), 40
    is_early = (pl.col("product_id") == number) & (pl.col("week") < first_week)
    # The last store has no promotions: what it sells makes nothing known.
    every.filter(~is_early | (pl.col("store_id") == STORES)).write_parquet(
        tmp_path / "transactions.parquet"
    )
    sold, promoted = prepare(tmp_path), prepare(tmp_path, all_promoted=True)
    row = 1 + sorted(pl.read_parquet(tables / "products.parquet")["product_id"]).index(number)
    is_known = (pl.col("week") >= first_week) & (pl.col("store_id") < STORES)
    sales = every.filter(is_known & (pl.col("product_id") == number))
    first_sale = int(sales["week"].sort()[0])
    assert min(_weeks_in_a_pool(promoted, row)) < first_week
    assert min(_weeks_in_a_pool(sold, row)) > first_sale
    assert sold.positive_first[-1] <= promoted.positive_first[-1]


def _weeks_in_a_pool(prepared: Prepared, row: int) -> set[int]:
    visits = range(len(prepared.week))
    return {int(prepared.week[v]) for v in visits if row in prepared.pool_row[prepared.pool_of(v)]}


def test_parts_are_apart_in_time(prepared: Prepared):
    weeks = [prepared.week[prepared.part(name)] for name in PARTS]
    assert sum(map(len, weeks)) == len(prepared.week)
    assert weeks[0].max() < weeks[1].min() <= weeks[1].max() < weeks[2].min()


def test_popularity_knows_nothing_of_the_slates_weeks(
    prepared: Prepared, tables: Path, tmp_path: Path
):
    for name in ("products", "promotions"):
        (tmp_path / f"{name}.parquet").write_bytes((tables / f"{name}.parquet").read_bytes())
    early = pl.read_parquet(tables / "transactions.parquet")
    late = (pl.col("week") >= FIRST_WEEK) & (pl.col("product_id") % 20 == 7)
    early.filter(~late).write_parquet(tmp_path / "transactions.parquet")
    assert np.array_equal(prepare(tmp_path).item_fields, prepared.item_fields)


def test_an_absent_type_is_no_type(prepared: Prepared):
    assert prepared.item_fields[1, 0] == 1
    assert (prepared.item_fields[2:, 0] > 1).all()
    assert (prepared.item_fields[0] == 0).all()


def test_a_missing_table_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"transactions\.parquet: no such file"):
        prepare(tmp_path)
