"""Your own log: Parquet or CSV files, with your column names in the recipe."""

import glob
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import RawLog, RawPools, Table, require_columns
from builder.recipe.data import TIME_FIELDS, PoolFile
from builder.recipe.recipe import Recipe


def read_files(recipe: Recipe) -> RawLog:
    """Read the events, and the item and user tables and the pools if the recipe names them.

    Raises:
        EventsError: a file does not exist, cannot be read, or lacks a column.
    """
    data, columns = recipe.data, recipe.data.columns
    context = [name for name in data.context_fields if name not in TIME_FIELDS]
    of_items = [*data.item_fields, *([columns.item_text] if columns.item_text else [])]
    optional = [name for name in (columns.time, columns.label, columns.quantity) if name]
    key = data.pools.key if data.pools else ()
    of_events = [columns.user, columns.item, *optional, *context, *key]
    item_id, user_id = columns.item_id or columns.item, columns.user_id or columns.user
    return RawLog(
        events=read_table(
            recipe, data.events or "", [*of_events, *([] if data.items else of_items)]
        ),
        columns=columns,
        items=_read_optional(recipe, data.items, [item_id, *of_items]),
        users=_read_optional(recipe, data.users, [user_id, *data.profile_fields]),
        pools=_read_pools(recipe, data.pools) if data.pools else None,
    )


def find_files(recipe: Recipe) -> list[Path]:
    """All files that the recipe names.

    Raises:
        EventsError: a file does not exist.
    """
    data = recipe.data
    patterns = (data.events, data.items, data.users, data.pools.file if data.pools else None)
    return [path for pattern in patterns if pattern for path in _find(recipe, pattern)]


def _read_pools(recipe: Recipe, pools: PoolFile) -> RawPools:
    item = pools.item or recipe.data.columns.item
    columns = [*pools.key, item, *recipe.data.candidate_fields]
    return RawPools(read_table(recipe, pools.file, columns), pools.key, item)


def _read_optional(recipe: Recipe, pattern: str | None, columns: Sequence[str]) -> Table | None:
    return read_table(recipe, pattern, columns) if pattern else None


def read_table(recipe: Recipe, pattern: str, columns: Sequence[str]) -> Table:
    """Read columns of one or several files, in the order of the file names.

    Args:
        recipe: says where relative paths start.
        pattern: path or glob.
        columns: columns to read; the others are not loaded.

    Raises:
        EventsError: a file does not exist, cannot be read, or lacks a column.
    """
    paths = _find(recipe, pattern)
    wanted = list(dict.fromkeys(columns))
    frames = [read_columns(path, wanted) for path in paths]
    try:
        return Table(pattern, pl.concat(frames, how="vertical_relaxed"))
    except pl.exceptions.PolarsError as error:
        raise EventsError(pattern, f"its files differ in a column's type: {error}") from error


def _find(recipe: Recipe, pattern: str) -> list[Path]:
    places = recipe.places(pattern)
    for place in places:
        paths = (
            [place] if place.is_file() else sorted(map(Path, glob.glob(str(place), recursive=True)))
        )
        if paths:
            return paths
    raise EventsError(pattern, f"no such file; looked for {' and '.join(map(str, places))}")


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pl.DataFrame:
    """Read columns of one file.

    Args:
        path: a .parquet or .csv file.
        columns: columns that it must have.
        optional: columns that are read as well, if it has them.

    Raises:
        EventsError: the file cannot be read, or lacks a column.
    """
    try:
        if path.suffix == ".parquet":
            lazy = pl.scan_parquet(path)
        elif path.suffix == ".csv":
            # Everything as text: inferred types would turn the id 007 into 7.
            lazy = pl.scan_csv(path, infer_schema=False)
        else:
            raise EventsError(
                str(path), f"got a file named *{path.suffix}, expected .parquet or .csv"
            )
        there = lazy.collect_schema().names()
        require_columns(str(path), there, columns)
        return lazy.select(*columns, *(name for name in optional if name in there)).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        # A damaged file can make polars panic, which is no `Exception`.
        raise EventsError(str(path), f"cannot be read: {error}") from error
