"""A log of a kind that no recipe was written for: a shop without categories, with nulls, returns and text as ids."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.errors import EventsError, LeakError
from builder.ingest.run import ingest
from builder.pipeline import STEPS, Build, run_step
from builder.publish.cache import connect_cache
from builder.publish.generations import read_pointer
from builder.recipe.recipe import Recipe, recipe_from
from builder.run_folder import RunFolder
from tests.builder.finished import finished_build

CUSTOMERS, ARTICLES, VISITS = 60, 90, 14
BEGIN = datetime(2024, 3, 1, 8)


def shop_log() -> pl.DataFrame:
    """Lines of receipts: every customer has some usual articles, tries others, and brings some back."""
    rng = np.random.default_rng(0)
    rows = []
    for customer in range(CUSTOMERS):
        usual = rng.choice(ARTICLES, 6, replace=False)
        for visit in range(VISITS):
            when = BEGIN + timedelta(days=7 * visit + float(rng.random() * 6))
            tried = rng.choice(ARTICLES, 2, replace=False)
            for article in {*rng.choice(usual, 3, replace=False).tolist(), *tried.tolist()}:
                quantity = None if rng.random() < 0.05 else int(rng.integers(1, 4))
                till = None if rng.random() < 0.1 else f"till {rng.integers(3)}"
                who, what = f"Müller & Söhne #{customer}", f"ART {article:04d}/b"
                rows.append((who, what, when, quantity, till, 9.5))
            if visit and rng.random() < 0.3:  # brings back what was bought last
                rows.append((rows[-1][0], rows[-1][1], when + timedelta(hours=1), -1, None, -9.5))
    columns = ["customer", "article no", "sold at", "pieces", "till", "price"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def recipe_at(folder: Path, **sections: Any) -> Recipe:
    values: dict[str, Any] = {
        "name": "shop",
        "serve_as": "shop",
        "data": {
            "source": "files",
            "events": "receipts.parquet",
            "context_fields": ["weekday", "till"],
            "min_item_count": 2,
            "columns": {
                "user": "customer",
                "item": "article no",
                "time": "sold at",
                "quantity": "pieces",
            },
        },
        "split": {"train_from": 0.2, "validate_from": 0.7, "test_from": 0.85},
        "history": {"length": 40, "recent": 5, "min_events": 5},
        "negatives": {"own_past": 0.5, "same_category": 0.0, "popularity_power": 1.0},
        "model": {"name": "lrea", "slots": "hash", "rank": 8, "heads": 2, "mlp": [16, 8]},
        "train": {"steps": 12, "validate_every": 12, "slates_per_step": 16, "threads": 1},
    }
    return recipe_from({**values, **sections}, folder / "shop.toml")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """Every step of a build of the log."""
    home = tmp_path_factory.mktemp("shop")
    shop_log().write_parquet(home / "receipts.parquet")
    with finished_build(recipe_at(home), home) as build:
        yield build


def test_the_whole_build_runs_and_publishes_every_customer(built: Build) -> None:
    results = {name: stamp.result for name, stamp in built.folder.stamps().items()}
    bought = shop_log().filter((pl.col("pieces") > 0).fill_null(value=True))

    assert list(results) == list(STEPS)
    assert results["ingest"]["events"] == len(bought) < len(shop_log())
    assert results["audit"]["allowed"] == []
    assert 0 < results["evaluate"]["test"]["auc"] < 1
    pointer, _ = read_pointer(connect_cache(built.cache_url), "shop")
    assert pointer is not None
    assert results["publish"]["num_users"] == CUSTOMERS


def test_names_arrive_as_they_were_and_nulls_share_one_value(built: Build) -> None:
    events = built.events()

    assert set(events.user_ids) == {f"Müller & Söhne #{n}" for n in range(CUSTOMERS)}
    assert set(events.vocabulary.items) <= {f"ART {n:04d}/b" for n in range(ARTICLES)}
    assert list(events.vocabulary.context["till"]) == ["till 0", "till 1", "till 2"]
    assert [field.name for field in events.schema.item_fields] == ["item", "popularity"]


def test_negatives_that_spare_what_is_ever_bought_fail_the_build(tmp_path: Path) -> None:
    shop_log().write_parquet(tmp_path / "receipts.parquet")
    leaking = recipe_at(tmp_path, negatives={"exclude": "ever"})
    build = Build(leaking, RunFolder(tmp_path / "run"), tmp_path / "artifacts", "embedded:unused")

    with build.folder.locked():
        run_step(build, "ingest")
        with pytest.raises(LeakError, match="item in history"):
            run_step(build, "audit")


BAD: list[tuple[Any, str]] = [
    (
        pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise("customer").alias("customer"),
        "column 'customer': got no value in 1 of",
    ),
    (pl.lit("yesterday").alias("sold at"), "column 'sold at': got an unreadable time"),
    (pl.lit("two").alias("pieces"), "column 'pieces': got a value that is not a number"),
    (pl.lit(-1).alias("pieces"), "got only quantities of 0 or less"),
    (pl.lit("one").alias("article no"), "items: got 1 distinct item, expected at least 2"),
    (pl.col("sold at").dt.time(), "column 'sold at': got values of type Time, expected datetimes"),
    (pl.lit([1]).alias("till"), "column 'till': got values of type List"),
]


@pytest.mark.parametrize(("column", "words"), BAD, ids=[words for _, words in BAD])
def test_what_is_wrong_with_a_column_is_said(tmp_path: Path, column: pl.Expr, words: str) -> None:
    shop_log().with_columns(column).write_parquet(tmp_path / "receipts.parquet")

    with pytest.raises(EventsError) as caught:
        ingest(recipe_at(tmp_path))

    assert words in str(caught.value)
    assert "receipts.parquet" in str(caught.value)


def test_a_column_that_is_missing_is_named_with_the_nearest_there_is(tmp_path: Path) -> None:
    shop_log().write_parquet(tmp_path / "receipts.parquet")
    recipe = recipe_at(tmp_path)
    columns = replace(recipe.data.columns, quantity="peices")

    with pytest.raises(EventsError, match="'peices'; did you mean 'pieces'"):
        ingest(replace(recipe, data=replace(recipe.data, columns=columns)))
