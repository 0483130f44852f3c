"""What a source hands to `clean`: tables as they were found, and the names of their columns."""

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
    """Rows and where they come from, for errors."""

    source: str
    frame: pl.DataFrame


@dataclass(frozen=True)
class RawLog:
    """A log as it was found.

    Attributes:
        events: one row per event.
        columns: what the columns are called; the time "" where the log has none.
        items: one row per item. None: item fields are columns of the events.
        users: one row per user. None: users have no profile.
        oracle: column of the events with the true probability of a click, if anybody knows it.
    """

    events: Table
    columns: Columns
    items: Table | None
    users: Table | None
    oracle: str | None = None


@dataclass(frozen=True)
class Source:
    """A kind of log.

    Attributes:
        read: the log.
        find: the files that `read` reads, so that a build sees when they have changed.
    """

    read: Callable[[Recipe], RawLog]
    find: Callable[[Recipe], list[Path]]


def require_columns(source: str, there: Sequence[str], names: Iterable[str]) -> None:
    """Raise EventsError unless all of `names` are `there`; all that lack are named."""
    lacking = [f"{name!r}{did_you_mean(name, there)}" for name in names if name not in there]
    if lacking:
        raise EventsError(
            source, f"no column {', '.join(lacking)}; columns there are: {', '.join(there)}"
        )


def find_folder(recipe: Recipe, home: str) -> Path:
    """The folder that `data.path` names.

    Args:
        recipe: says where relative paths start.
        home: where to get the files.

    Raises:
        EventsError: it is not there.
    """
    path = recipe.data.path or ""
    places = recipe.places(path)
    for place in places:
        if place.is_dir():
            return place
    looked = " and ".join(map(str, places))
    raise EventsError(path, f"no such folder; looked for {looked}; get the files at {home}")
