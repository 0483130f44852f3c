"""Small logs and their recipes, as a user would write them: files on disk and plain recipe values."""

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builder.errors import RecipeError
from builder.ingest.events import Events
from builder.ingest.run import ingest_log
from builder.ingest.sources import SOURCES
from builder.recipe.recipe import Recipe, recipe_from

NOW_S = 1_700_000_000.0
START_S = 1_600_000_000
HERE = Path("recipe.toml")
"""Path of a recipe that is no file."""


def plain_recipe(**sections: Any) -> dict[str, Any]:
    """Recipe values over `events.csv`; `data` is merged, other sections replaced."""
    data = {"source": "files", "events": "events.csv", "context_fields": []}
    return {
        "name": "small",
        "serve_as": "small",
        "model": {"name": "lrea"},
        **sections,
        "data": data | sections.get("data", {}),
    }


def problems_of(values: dict[str, Any]) -> list[str]:
    """The error text of a recipe that is rejected."""
    with pytest.raises(RecipeError) as caught:
        recipe_from(values, HERE)
    return caught.value.problems


def small_recipe(folder: Path, **sections: Any) -> Recipe:
    """A recipe that lies in `folder`."""
    return recipe_from(plain_recipe(**sections), folder / "recipe.toml")


def log_frame(rows: int = 40) -> pl.DataFrame:
    """Events of four users and five items, one per minute, sorted by time."""
    place = range(rows)
    return pl.DataFrame(
        {
            "user_id": [f"u{i % 4}" for i in place],
            "item_id": [f"i{i % 5}" for i in place],
            "timestamp": [START_S + 60 * i for i in place],
        }
    )


def with_late_users() -> pl.DataFrame:
    """The usual log with labels; its last four events are of two users that have no earlier event."""
    names = ["late", "later"] * 2
    return log_frame().with_columns(
        user_id=pl.concat([log_frame()["user_id"][:36], pl.Series(names)]),
        clicked=pl.int_range(40) // 2 % 2,
    )


def write_log(folder: Path, frame: pl.DataFrame, **sections: Any) -> Recipe:
    """Write `frame` as the events and return a recipe for it."""
    frame.write_csv(folder / "events.csv")
    return small_recipe(folder, **sections)


def write_lines(path: Path, lines: list[str]) -> None:
    """Write lines, packed where the name says so."""
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def ingest_at(recipe: Recipe, now_s: float = NOW_S) -> Events:
    """`ingest` with a fixed current time."""
    return ingest_log(SOURCES[recipe.data.source].read(recipe), recipe, now_s)


def many_users(num_users: int = 200) -> pl.DataFrame:
    """Three events of each user; its own item, once, is the last."""
    rows = [
        (f"u{user}", item, START_S + 100 * user + place)
        for user in range(num_users)
        for place, item in enumerate((f"i{user % 7}", f"i{user % 5}", f"own{user}"))
    ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
