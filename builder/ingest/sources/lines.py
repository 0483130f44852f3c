"""Text files with one value per line, gzip-compressed or not; errors name the file and the line."""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import require_columns

CHUNK_ROWS = 200_000
"""Rows that are held as Python objects at a time."""
KINDS = {str: "a string", int: "a whole number", float: "a number"}


def find_one(folder: Path, stem: str, suffix: str, home: str) -> Path:
    """The file of this name, compressed or not.

    Args:
        folder: folder of the file.
        stem: name without its suffix, or a pattern for it.
        suffix: suffix of the uncompressed file.
        home: URL where to get the file, for the error.

    Raises:
        EventsError: there is no such file, or there are several.
    """
    pattern = f"{stem}{suffix}"
    paths = sorted([*folder.glob(pattern), *folder.glob(f"{pattern}.gz")])
    if not paths:
        problem = f"no file {pattern}* in this folder; get the files at {home}"
        raise EventsError(str(folder), problem)
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise EventsError(str(folder), f"got {names}, expected only one {pattern}*")
    return paths[0]


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Pairs of a place, for errors (file and line number from 1), and a line's text.

    Raises:
        EventsError: the file cannot be read to its end.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield f"{path}, line {number}", line.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise EventsError(str(path), f"cannot be read: {error}") from error


def parse_json(place: str, line: str, names: Iterable[str]) -> dict[str, Any]:
    """A line of JSON as a dict that has `names`.

    Raises:
        EventsError: the line is not JSON, or not such a dict.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise EventsError(place, f"got text that is not JSON ({error}), expected JSON") from error
    return require_names(place, value, names)


def require_names(place: str, line: Any, names: Iterable[str]) -> dict[str, Any]:
    """Check that the value of a line is a dict that has `names`.

    Raises:
        EventsError: it is not.
    """
    if not isinstance(line, dict):
        raise EventsError(place, f"got {line!r}, expected an object of names and values")
    require_columns(place, list(line), names)
    return line


def read_values(path: Path, kinds: Mapping[str, type]) -> Iterator[tuple[Any, ...]]:
    """Some values of every line of JSON.

    Args:
        path: the file.
        kinds: name of each value -> its type, one of `KINDS`.

    Raises:
        EventsError: a line is not JSON, lacks a name, or has a value of another type.
    """
    for place, line in read_lines(path):
        there = parse_json(place, line, kinds)
        for name, kind in kinds.items():
            is_right = type(there[name]) is kind or (kind is float and type(there[name]) is int)
            if kind is int and is_right:
                is_right = abs(there[name]) < 2**63
            if not is_right:
                expected = f"got {there[name]!r}, expected {KINDS[kind]}"
                raise EventsError(place, f"column {name!r}: {expected}")
        yield tuple(there[name] for name in kinds)


def make_frame(rows: Iterator[tuple[Any, ...]], schema: dict[str, Any]) -> pl.DataFrame:
    """A table of the rows, built in chunks. The schema may name Python types."""
    chunks = [pl.DataFrame(schema=schema)]
    while chunk := list(islice(rows, CHUNK_ROWS)):
        chunks.append(pl.DataFrame(chunk, schema=schema, orient="row"))
    return pl.concat(chunks, rechunk=True)


def require_some(reviews: Path, num_reviewed: int, metadata: Path, items: pl.DataFrame) -> None:
    """Raise EventsError if the metadata has none of the reviewed items."""
    if num_reviewed and items.is_empty():
        problem = f"items: got none of the {num_reviewed} items of {reviews.name}"
        raise EventsError(str(metadata), f"{problem}, expected the metadata of the same category")
