"""Amazon Reviews 2023 of one category: the reviews and the metadata of the items, as JSON lines.

Get both files at https://amazon-reviews-2023.github.io/ ; for gift cards they are `Gift_Cards.jsonl.gz` and
`meta_Gift_Cards.jsonl.gz`, compressed or not. An item is a `parent_asin`, which joins its colours and sizes. Of the
reviews, four columns are kept; of the metadata, the reviewed items:

    reviews   user_id, parent_asin, timestamp (s, rounded down from ms), rating (1 to 5)
    items     parent_asin, main_category, title, store, price, categories (joined by " > "), category (the last of
              them), features and description (joined by spaces), average_rating, rating_number

`average_rating` and `rating_number` were computed over all reviews when the files were collected, also over those of
the validation and test parts: as fields of a model they leak its own test. Prices are numbers or texts such as
"from 10.00"; absent or empty values are null.
"""

from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.lines import (
    find_one,
    make_frame,
    parse_json,
    read_lines,
    read_values,
    require_some,
)
from builder.ingest.sources.raw import RawLog, Table, find_folder
from builder.recipe.data import Columns
from builder.recipe.recipe import Recipe

HOME = "https://amazon-reviews-2023.github.io/"
SUFFIX = ".jsonl"
REVIEW = {"user_id": str, "parent_asin": str, "timestamp": int, "rating": float}
"""Columns that are kept, and their types."""
TEXTS = ("main_category", "title", "store")
NUMBERS = ("price", "average_rating", "rating_number")
LISTS = {"categories": " > ", "features": " ", "description": " "}
"""Lists of texts, and the separator that joins them."""
ITEM = ("parent_asin", *TEXTS, *NUMBERS, *LISTS)
"""Names that every line of the metadata has."""
ITEM_SCHEMA = dict.fromkeys((*ITEM, "category"), pl.String)


def read_amazon_2023(recipe: Recipe) -> RawLog:
    """Read the reviews and the reviewed items. Every review is a positive, unless ratings make the label.

    Raises:
        EventsError: a file does not exist, or a line has another format.
    """
    reviews, metadata = find_amazon_2023(recipe)
    events = make_frame(read_values(reviews, REVIEW), REVIEW)
    events = events.with_columns(timestamp=pl.col("timestamp") // 1_000)
    reviewed = set(events["parent_asin"].unique())
    items = make_frame(_items(metadata, reviewed), ITEM_SCHEMA)
    require_some(reviews, len(reviewed), metadata, items)
    label = None if recipe.data.positive_from is None else "rating"
    columns = Columns("user_id", "parent_asin", "timestamp", label, item_text="title")
    return RawLog(Table(str(reviews), events), columns, Table(str(metadata), items), users=None)


def find_amazon_2023(recipe: Recipe) -> list[Path]:
    """Files of the reviews and of the metadata, both of one category, in the recipe's folder.

    Raises:
        EventsError: the folder or a file does not exist, or there are several files.
    """
    folder = find_folder(recipe, HOME)
    metadata = find_one(folder, "meta_*", SUFFIX, HOME)
    category = metadata.name.removeprefix("meta_").removesuffix(".gz").removesuffix(SUFFIX)
    return [find_one(folder, category, SUFFIX, HOME), metadata]


def _items(path: Path, reviewed: Set[str]) -> Iterator[tuple[str | None, ...]]:
    for place, line in read_lines(path):
        item = parse_json(place, line, ITEM)
        if _text(place, "parent_asin", item["parent_asin"]) in reviewed:
            numbers = [_text(place, name, _as_written(item[name])) for name in NUMBERS]
            lists = [_joined(place, name, item[name], mark) for name, mark in LISTS.items()]
            texts = [_text(place, name, item[name]) for name in TEXTS]
            category = item["categories"][-1] if item["categories"] else None
            yield (item["parent_asin"], *texts, *numbers, *lists, category or None)


def _as_written(value: Any) -> Any:
    """A number as text."""
    return str(value) if type(value) in (int, float) else value


def _text(place: str, name: str, value: Any) -> str | None:
    """A string that is not empty, or None."""
    if value is not None and not isinstance(value, str):
        raise EventsError(place, f"column {name!r}: got {value!r}, expected a string or null")
    return value or None


def _joined(place: str, name: str, values: Any, mark: str) -> str | None:
    """A list of texts as one; None where it is empty."""
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise EventsError(place, f"column {name!r}: got {values!r}, expected a list of texts")
    return mark.join(values) or None
