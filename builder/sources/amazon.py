"""Amazon reviews of one category, in the files of 2014: reviews of the 5-core, and the metadata of the items.

The files may not be passed on: get both at https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html. For books they
are `reviews_Books_5.json.gz` and `meta_Books.json.gz`, unpacked or not. A line of the reviews is JSON; one of the
metadata is a Python dict, which is no JSON. Of 9 GB of reviews only three columns are kept, of the metadata only the
items that are reviewed:

    reviews   reviewerID, asin, unixReviewTime (s; whole days)
    items     asin, category: the last entry, the most specific, of the first list of categories; null where unknown
"""

import ast
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Set
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from builder.recipe import Recipe
from builder.recipe_data import Columns
from builder.sources.raw import RawLog, Table, find_folder, require_columns
from models.errors import EventsError

HOME = "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html"
COLUMNS = Columns(user="reviewerID", item="asin", time="unixReviewTime")
REVIEW = {"reviewerID": str, "asin": str, "unixReviewTime": int}
"""Columns that are kept, and what they hold."""
REVIEW_SCHEMA = {"reviewerID": pl.String, "asin": pl.String, "unixReviewTime": pl.Int64}
ITEM_SCHEMA = {"asin": pl.String, "category": pl.String}
CHUNK_ROWS = 200_000
"""Rows that are Python objects at the same time."""
ASIN_FIRST = re.compile(r"\{'asin': '(\w+)'")
"""How lines of the metadata begin: items that nobody reviewed, six of seven books, are then not parsed."""


def read_amazon(recipe: Recipe) -> RawLog:
    """Reviews, every one a positive, and the categories of the items they are about.

    Raises:
        EventsError: a file is not there, or a line of it is not what the format says.
    """
    reviews, metadata = find_amazon(recipe)
    events = _frame(_reviews(reviews), REVIEW_SCHEMA)
    reviewed = set(events["asin"].unique())
    items = _frame(_items(metadata, reviewed), ITEM_SCHEMA)
    if reviewed and items.is_empty():
        problem = f"none of the {len(reviewed)} items of {reviews.name} is in it"
        raise EventsError(str(metadata), f"{problem}; is it the metadata of another category?")
    return RawLog(Table(str(reviews), events), COLUMNS, Table(str(metadata), items), users=None)


def find_amazon(recipe: Recipe) -> list[Path]:
    """Files of the reviews and of the metadata in the recipe's folder.

    Raises:
        EventsError: the folder or a file is not there, or there are several.
    """
    folder = find_folder(recipe, HOME)
    return [_find(folder, "reviews_*.json*"), _find(folder, "meta_*.json*")]


def _find(folder: Path, pattern: str) -> Path:
    found = sorted(path for path in folder.glob(pattern) if path.suffix in (".json", ".gz"))
    if not found:
        raise EventsError(str(folder), f"no file {pattern} in this folder; get the files at {HOME}")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise EventsError(str(folder), f"got {names} for {pattern}, expected one of them")
    return found[0]


def _frame(rows: Iterator[tuple[Any, ...]], schema: dict[str, Any]) -> pl.DataFrame:
    """A table of rows, made in chunks."""
    chunks = [pl.DataFrame(schema=schema)]
    while chunk := list(islice(rows, CHUNK_ROWS)):
        chunks.append(pl.DataFrame(chunk, schema=schema, orient="row"))
    return pl.concat(chunks, rechunk=True)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines, packed or not, each after its place for errors: file and number, from 1."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield f"{path}, line {number}", line.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise EventsError(str(path), f"cannot be read: {error}") from error


def _reviews(path: Path) -> Iterator[tuple[Any, ...]]:
    for place, line in _lines(path):
        try:
            review = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise EventsError(place, f"no JSON: {error}") from error
        there = _keys(place, review, REVIEW)
        for name, kind in REVIEW.items():
            if type(review[name]) is not kind:
                expected = "a text" if kind is str else "a whole number"
                problem = f"column {name!r}: got {review[name]!r}, expected {expected}"
                raise EventsError(place, problem)
        yield tuple(there[name] for name in REVIEW)


def _items(path: Path, reviewed: Set[str]) -> Iterator[tuple[str, str | None]]:
    for place, line in _lines(path):
        begins = ASIN_FIRST.match(line)
        if begins and begins[1] not in reviewed:
            continue
        try:
            item = ast.literal_eval(line)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise EventsError(place, f"no dict as Python writes it: {error}") from error
        asin = _keys(place, item, ("asin",))["asin"]
        if asin in reviewed:
            yield asin, _category(place, item.get("categories") or [[]])


def _keys(place: str, line: Any, names: Iterable[str]) -> dict[str, Any]:
    """The line as a dict that has `names`."""
    if not isinstance(line, dict):
        raise EventsError(place, f"got {line!r}, expected names and values in braces")
    require_columns(place, list(line), names)
    return line


def _category(place: str, categories: Any) -> str | None:
    """The most specific category of the first list; None where the item has none."""
    first = categories[0] if isinstance(categories, list) else None
    if not isinstance(first, list) or not all(isinstance(name, str) for name in first):
        expected = "expected lists of texts"
        raise EventsError(place, f"column 'categories': got {categories!r}, {expected}")
    return first[-1] if first and first[-1] else None
