"""The Complete Journey's promotions: what was on display or in the mailer, by store and week, and who bought it.

A pool is a store and a week: the products that were promoted there and then, without those that none of the promoting
stores had sold in an earlier week: 53 % of the promoted products were not, and they hold 1 % of the purchases. The
events are all purchases, in any store; those in stores or weeks without promotions are history only.
"""

from dataclasses import replace
from pathlib import Path

import polars as pl

from builder.ingest.sources.complete_journey import COLUMNS, PACKAGE, find_tables, with_texts
from builder.ingest.sources.raw import RawLog, RawPools, Table
from builder.recipe.recipe import Recipe

TABLES = ("transactions", "products", "demographics", "promotions")
KEY = ("store_id", "week")
ITEM = "product_id"
PLACEMENTS = {"display": "display_location", "mailer": "mailer_location"}
"""Candidate fields: codes of a place in the store or in the mailer; "0": the product is not there."""


def read_promotions(recipe: Recipe) -> RawLog:
    """Read purchases, products, demographics and promotions.

    A basket's lines of one product are one event. Products have a further field `maker`: the manufacturer, and whether
    the brand is the store's own.

    Raises:
        EventsError: the package is not installed, or lacks a file.
    """
    *tables, promotions = find_promotions(recipe)
    events, items, users = (
        Table(f"{PACKAGE}/data/{path.name}", pl.read_parquet(path)) for path in tables
    )
    line = [COLUMNS.user, COLUMNS.time, COLUMNS.item]
    purchases = events.frame.select(*line, *KEY).unique(line, maintain_order=True)
    maker = pl.concat_str(pl.col("manufacturer_id").cast(pl.String), "brand", separator=" ")
    return RawLog(
        replace(events, frame=purchases),
        COLUMNS,
        replace(items, frame=with_texts(items.frame).with_columns(maker=maker)),
        users,
        pools=RawPools(
            Table(f"{PACKAGE}/data/{promotions.name}", _pools(promotions, purchases)), KEY, ITEM
        ),
    )


def find_promotions(_recipe: Recipe) -> list[Path]:
    """Files of the purchases, the products, the users and the promotions, in the installed package.

    Raises:
        EventsError: the package is not installed, or lacks a file.
    """
    return find_tables("promotions", TABLES)


def _pools(path: Path, purchases: pl.DataFrame) -> pl.DataFrame:
    """Promoted products that were sold before, by store and week; of several placements the last code counts."""
    promotions = pl.scan_parquet(path)
    stores = promotions.select("store_id").unique()
    first_sale = (
        purchases.lazy()
        .join(stores, on="store_id", how="semi")
        .group_by(ITEM)
        .agg(pl.col("week").min().alias("first_sale"))
    )
    visited = purchases.lazy().select(KEY).unique()
    placements = [pl.col(column).alias(name) for name, column in PLACEMENTS.items()]
    rows = (
        promotions.join(visited, on=KEY, how="semi")
        .join(first_sale, on=ITEM)
        .filter(pl.col("first_sale") < pl.col("week"))
        .select(*KEY, ITEM, *placements)
        .collect()
    )
    return _merged(rows)


def _merged(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per store, week and product. Few have several: only these are grouped, which takes seconds less."""
    key = [*KEY, ITEM]
    repeated = rows.group_by(key).len().filter(pl.col("len") > 1)
    once = rows.join(repeated, on=key, how="anti")
    again = rows.join(repeated, on=key, how="semi").group_by(key, maintain_order=True)
    return pl.concat([once, again.agg(pl.col(name).max() for name in PLACEMENTS)])
