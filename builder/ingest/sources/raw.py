"""What a source returns: the tables of a log as they were found, and the names of their columns."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from builder.errors import EventsError
from builder.recipe.data import Columns
from builder.recipe.recipe import Recipe
from models.contract.errors import did_you_mean


@dataclass(frozen=True)
class Table:
    """Rows, and the name of their file for errors."""

    source: str
    frame: pl.DataFrame


@dataclass(frozen=True)
class RawPools:
    """The candidates of each request, not checked yet.

    Attributes:
        table: one row per pool and item, with the candidate fields.
        key: columns that name a pool, in this table and in the events.
        item: column of the item's id.
    """

    table: Table
    key: tuple[str, ...]
    item: str


@dataclass(frozen=True)
class RawLog:
    """The tables of a log, not checked yet.

    Attributes:
        events: one row per event.
        columns: names of the columns; the time is "" where the log has none.
        items: one row per item. None: item fields are columns of the events.
        users: one row per user. None: users have no profile.
        oracle: column of the events with the true click probability; None for real logs.
        pools: the candidates of each request; None where the log does not know them.
    """

    events: Table
    columns: Columns
    items: Table | None
    users: Table | None
    oracle: str | None = None
    pools: RawPools | None = None


@dataclass(frozen=True)
class Source:
    """A kind of log.

    Attributes:
        read: reads the log.
        find: lists the files that `read` reads, so that a build notices when they change.
    """

    read: Callable[[Recipe], RawLog]
    find: Callable[[Recipe], list[Path]]


def require_columns(source: str, there: Sequence[str], names: Iterable[str]) -> None:
    """Raise EventsError, naming every missing column, unless all of `names` are in `there`."""
    missing = [f"{name!r}{did_you_mean(name, there)}" for name in names if name not in there]
    if missing:
        raise EventsError(
            source, f"no column {', '.join(missing)}; its columns are: {', '.join(there)}"
        )


def find_folder(recipe: Recipe, home: str) -> Path:
    """The folder that `data.path` names.

    Args:
        recipe: says where relative paths start.
        home: URL where to get the files, for the error.

    Raises:
        EventsError: the folder does not exist.
    """
    path = recipe.data.path or ""
    places = recipe.places(path)
    for place in places:
        if place.is_dir():
            return place
    looked = " and ".join(map(str, places))
    raise EventsError(path, f"no such folder; looked for {looked}; get the files at {home}")
