"""Amazon reviews of one category, edition 2014: the reviews of the 5-core, and the metadata of the items.

The files may not be redistributed: get both at https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html. For
books they are `reviews_Books_5.json.gz` and `meta_Books.json.gz`, compressed or not. A line of the reviews is JSON; a
line of the metadata is a Python dict, which is not JSON. Of 9 GB of reviews, three columns are kept; of the metadata,
the reviewed items:

    reviews   reviewerID, asin, unixReviewTime (s; whole days)
    items     asin, title, category: the last entry, the most specific, of the first list of categories; null where
              unknown
"""

import ast
import re
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.lines import (
    find_one,
    make_frame,
    read_lines,
    read_values,
    require_names,
    require_some,
)
from builder.ingest.sources.raw import RawLog, Table, find_folder
from builder.recipe.data import Columns
from builder.recipe.recipe import Recipe

HOME = "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html"
COLUMNS = Columns(user="reviewerID", item="asin", time="unixReviewTime", item_text="title")
REVIEW = {"reviewerID": str, "asin": str, "unixReviewTime": int}
"""Columns that are kept, and their types."""
ITEM_SCHEMA = {"asin": pl.String, "title": pl.String, "category": pl.String}
ASIN_FIRST = re.compile(r"\{'asin': '(\w+)'")
"""Start of a metadata line. It tells which items have no review, six of seven books, before the line is parsed."""


def read_amazon(recipe: Recipe) -> RawLog:
    """Read the reviews, each of which is a positive, and the titles and categories of the reviewed items.

    Raises:
        EventsError: a file does not exist, or a line has another format.
    """
    reviews, metadata = find_amazon(recipe)
    events = make_frame(read_values(reviews, REVIEW), REVIEW)
    reviewed = set(events["asin"].unique())
    items = make_frame(_items(metadata, reviewed), ITEM_SCHEMA)
    require_some(reviews, len(reviewed), metadata, items)
    return RawLog(Table(str(reviews), events), COLUMNS, Table(str(metadata), items), users=None)


def find_amazon(recipe: Recipe) -> list[Path]:
    """Files of the reviews and of the metadata in the recipe's folder.

    Raises:
        EventsError: the folder or a file does not exist, or there are several files.
    """
    folder = find_folder(recipe, HOME)
    return [find_one(folder, stem, ".json", HOME) for stem in ("reviews_*", "meta_*")]


def _items(path: Path, reviewed: Set[str]) -> Iterator[tuple[str, str | None, str | None]]:
    for place, line in read_lines(path):
        begins = ASIN_FIRST.match(line)
        if begins and begins[1] not in reviewed:
            continue
        try:
            item = ast.literal_eval(line)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise EventsError(
                place, f"got text that is not a Python literal ({error}), expected a dict"
            ) from error
        asin = require_names(place, item, ("asin",))["asin"]
        if asin in reviewed:
            yield asin, _title(place, item), _category(place, item.get("categories") or [[]])


def _title(place: str, item: dict[str, Any]) -> str | None:
    title = item.get("title")
    if title is not None and not isinstance(title, str):
        raise EventsError(place, f"column 'title': got {title!r}, expected a string or None")
    return title


def _category(place: str, categories: Any) -> str | None:
    """The most specific category of the first list; None where the item has none."""
    first = categories[0] if isinstance(categories, list) else None
    if not isinstance(first, list) or not all(isinstance(name, str) for name in first):
        expected = "expected lists of texts"
        raise EventsError(place, f"column 'categories': got {categories!r}, {expected}")
    return first[-1] if first and first[-1] else None
