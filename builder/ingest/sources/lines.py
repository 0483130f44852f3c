"""Files of one JSON value or the like a line, packed or not; a wrong line is named by file and number."""

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
"""Rows that are Python objects at the same time."""
KINDS = {str: "a text", int: "a whole number", float: "a number"}


def find_one(folder: Path, stem: str, suffix: str, home: str) -> Path:
    """The file of this name, packed or not.

    Args:
        folder: where it lies.
        stem: its name, or a pattern for it.
        suffix: its end, if it is not packed.
        home: where to get it.

    Raises:
        EventsError: it is not there, or there are several.
    """
    pattern = f"{stem}{suffix}"
    found = sorted([*folder.glob(pattern), *folder.glob(f"{pattern}.gz")])
    if not found:
        problem = f"no file {pattern}* in this folder; get the files at {home}"
        raise EventsError(str(folder), problem)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise EventsError(str(folder), f"got {names} for {pattern}*, expected one of them")
    return found[0]


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines, packed or not, each after its place for errors: file and number, from 1.

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
        EventsError: it is something else.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise EventsError(place, f"no JSON: {error}") from error
    return require_names(place, value, names)


def require_names(place: str, line: Any, names: Iterable[str]) -> dict[str, Any]:
    """The value of a line as a dict that has `names`.

    Raises:
        EventsError: it is something else.
    """
    if not isinstance(line, dict):
        raise EventsError(place, f"got {line!r}, expected names and values in braces")
    require_columns(place, list(line), names)
    return line


def read_values(path: Path, kinds: Mapping[str, type]) -> Iterator[tuple[Any, ...]]:
    """Some values of every line of JSON.

    Args:
        path: the file.
        kinds: names of the values, and what they must be: one of `KINDS`.

    Raises:
        EventsError: a line is not what it should be.
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
    """A table of rows, made in chunks; the types may be Python's."""
    chunks = [pl.DataFrame(schema=schema)]
    while chunk := list(islice(rows, CHUNK_ROWS)):
        chunks.append(pl.DataFrame(chunk, schema=schema, orient="row"))
    return pl.concat(chunks, rechunk=True)


def require_some(reviews: Path, num_reviewed: int, metadata: Path, items: pl.DataFrame) -> None:
    """Raise EventsError where the metadata know none of the items that are reviewed."""
    if num_reviewed and items.is_empty():
        problem = f"none of the {num_reviewed} items of {reviews.name} is in it"
        raise EventsError(str(metadata), f"{problem}; is it the metadata of another category?")
