"""Your own log: Parquet or CSV files, with your column names in the recipe."""

import glob
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.condition import keep_rows
from builder.ingest.sources.raw import RawLog, RawPools, Table, require_columns
from builder.ingest.sources.scan import is_table, scan
from builder.recipe.data import TIME_FIELDS, PoolFile
from builder.recipe.reading import CsvRule
from builder.recipe.recipe import Recipe


def read_files(recipe: Recipe) -> RawLog:
    """Read the events, and the item and user tables and the pools if the recipe names them.

    Raises:
        EventsError: a file does not exist, cannot be read, or lacks a column.
    """
    data, columns = recipe.data, recipe.data.columns
    context = [name for name in data.context_fields if name not in TIME_FIELDS]
    of_items = [*data.item_fields, *([columns.item_text] if columns.item_text else [])]
    kind = data.event_kinds.column if data.event_kinds else None
    own = (columns.time, columns.label, columns.quantity, columns.weight, kind)
    optional = [name for name in own if name]
    key = data.pools.key if data.pools else ()
    of_events = [columns.user, columns.item, *optional, *context, *key]
    item_id, user_id = columns.item_id or columns.item, columns.user_id or columns.user
    return RawLog(
        events=read_table(
            recipe,
            data.events or "",
            [*of_events, *([] if data.items else of_items)],
            data.filter,
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


def read_table(
    recipe: Recipe, pattern: str, columns: Sequence[str], condition: str | None = None
) -> Table:
    """Read columns of one or several files, in the order of the file names.

    Args:
        recipe: says where relative paths start, and how CSV files are written.
        pattern: path, glob or folder.
        columns: columns to read; the others are not loaded.
        condition: SQL condition on the file's columns; rows for which it is not true are not loaded.

    Raises:
        EventsError: a file does not exist, cannot be read, or lacks a column; or no row is left.
    """
    paths = _find(recipe, pattern)
    wanted = list(dict.fromkeys(columns))
    frames = [
        read_columns(path, wanted, rule=recipe.data.csv, condition=condition) for path in paths
    ]
    try:
        table = Table(pattern, pl.concat(frames, how="vertical_relaxed"))
    except pl.exceptions.PolarsError as error:
        raise EventsError(pattern, f"its files differ in a column's type: {error}") from error
    if condition is not None and table.frame.is_empty():
        raise EventsError(pattern, f"data.filter: got {condition!r}, which leaves no event")
    return table


def _find(recipe: Recipe, pattern: str) -> list[Path]:
    places = recipe.places(pattern)
    for place in places:
        paths = find_tables(place)
        if paths:
            return paths
    raise EventsError(pattern, f"no such file; looked for {' and '.join(map(str, places))}")


def find_tables(place: Path) -> list[Path]:
    """Files of a path, a glob, or a folder and the folders in it; in the order of their names."""
    if place.is_file():
        return [place]
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.is_file() and is_table(path))
    found = sorted(map(Path, glob.glob(str(place), recursive=True)))
    return [table for path in found for table in ([path] if path.is_file() else find_tables(path))]


def read_columns(
    path: Path,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    rule: CsvRule | None = None,
    condition: str | None = None,
) -> pl.DataFrame:
    """Read columns of one file.

    Args:
        path: a Parquet or CSV file.
        columns: columns that it must have.
        optional: columns that are read as well, if it has them.
        rule: how a CSV file is written; None: in the usual way.
        condition: SQL condition; rows for which it is not true are not loaded.

    Raises:
        EventsError: the file cannot be read, or lacks a column.
    """
    try:
        table = scan(path, rule)
        there = table.names
        require_columns(str(path), there, columns)
        lazy = table.lazy if condition is None else keep_rows(str(path), table, condition)
        return lazy.select(*columns, *(name for name in optional if name in there)).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        # A damaged file can make polars panic, which is no `Exception`.
        raise EventsError(str(path), f"cannot be read: {error}") from error
