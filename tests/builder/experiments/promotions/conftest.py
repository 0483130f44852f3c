"""A small shop: tables as the package's, and the task made of them."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from builder.experiments.promotions.prepare import prepare
from builder.experiments.promotions.prepared import Prepared

HOUSEHOLDS, PRODUCTS, STORES = 24, 120, 2
START = datetime(2017, 1, 1)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Households that buy of two favourite types, in stores that promote a third of the catalogue each week."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(1)
    numbers = np.arange(PRODUCTS) * 10 + 7
    pl.DataFrame(
        {
            "product_id": numbers.astype(np.int32),
            "manufacturer_id": (numbers % 9).astype(np.int32),
            "department": [f"d{n % 3}" for n in range(PRODUCTS)],
            "brand": ["Private" if n % 4 == 0 else "National" for n in range(PRODUCTS)],
            "product_category": [f"c{n % 6}" for n in range(PRODUCTS)],
            "product_type": [None if n == 0 else f"t{n % 12}" for n in range(PRODUCTS)],
            "package_size": [""] * PRODUCTS,
        }
    ).write_parquet(folder / "products.parquet")
    _purchases(rng, numbers).write_parquet(folder / "transactions.parquet")
    _promotions(rng, numbers).write_parquet(folder / "promotions.parquet")
    return folder


def _purchases(rng: np.random.Generator, numbers: np.ndarray) -> pl.DataFrame:
    rows, basket = [], 0
    for household in range(HOUSEHOLDS):
        liked = np.flatnonzero(np.isin(np.arange(PRODUCTS) % 12, rng.choice(12, 2, replace=False)))
        for day in np.sort(rng.choice(52 * 7, 45, replace=False)):
            basket += 1
            time = START + timedelta(days=int(day), minutes=int(rng.integers(1000)))
            store = int(rng.integers(STORES + 1))  # the last store has no promotions
            for item in rng.choice(liked, 5):  # may hold a product twice
                rows.append((household, store, basket, int(numbers[item]), day // 7 + 1, time))
    names = ["household_id", "store_id", "basket_id", "product_id", "week", "transaction_timestamp"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("product_id").cast(pl.Int32), pl.col("week").cast(pl.Int8)
    )


def _promotions(rng: np.random.Generator, numbers: np.ndarray) -> pl.DataFrame:
    rows = [
        (int(number), store, str(rng.integers(3)), "0AD"[rng.integers(3)], week)
        for week in range(1, 54)
        for store in range(STORES)
        for number in rng.choice(numbers, PRODUCTS // 3, replace=False)
    ]
    names = ["product_id", "store_id", "display_location", "mailer_location", "week"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("product_id").cast(pl.Int32), pl.col("week").cast(pl.Int8)
    )


@pytest.fixture(scope="session")
def prepared(tables: Path) -> Prepared:
    return prepare(tables)
