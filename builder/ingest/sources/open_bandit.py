"""Open Bandit: a week of fashion items, shown by a random policy and by Bernoulli Thompson sampling, and clicked.

Get the files at https://research.zozo.com/data.html and unpack them; the package obp contains a small sample. For each
policy (`random`, `bts`) and campaign (`all`, `men`, `women`) the folder holds `<policy>/<campaign>/<campaign>.csv` and
`item_context.csv` beside it. Or it holds all of them joined, as Parquet, with columns `behavior_policy` and `campaign`:
`impressions.parquet` and `item_context.parquet`. In both layouts the tables have the columns

    events  user_id, item_id, timestamp, click, position (1 to 3), behavior_policy
    items   item_id, campaign, item_feature_0 … item_feature_3
    users   user_id, user_feature_0 … user_feature_3

The log has no user ids: a "user" here is a cohort of people who share the four hashed features, and its id is a hash of
these. Its history is that of many people. The feature hashes are the same for both policies and all campaigns. An item
is "<campaign>/<number>", since the numbers start anew in each campaign. Item features 1 to 3 are hashed differently for
each policy and campaign; those of the policy `random` are used where there are any.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import RawLog, Table, find_folder, require_columns
from builder.recipe.data import Columns
from builder.recipe.recipe import Recipe

HOME = "https://research.zozo.com/data.html"
COLUMNS = Columns(user="user_id", item="item_id", time="timestamp", label="click")
POLICIES = ("random", "bts")
"""In the order in which an item's features are looked up."""
CAMPAIGNS = ("all", "men", "women")
ITEMS, JOINED, JOINED_ITEMS = "item_context.csv", "impressions.parquet", "item_context.parquet"
USER_FEATURES = tuple(f"user_feature_{number}" for number in range(4))
ITEM_FEATURES = tuple(f"item_feature_{number}" for number in range(4))
ITEM = ("item_id", *ITEM_FEATURES)
EVENT = ("timestamp", "item_id", "position", "click", *USER_FEATURES)
"""Columns that are read. Propensities and affinities are not."""
ITEM_ID = pl.format("{}/{}", "campaign", "item_id")


def read_open_bandit(recipe: Recipe) -> RawLog:
    """Read the impressions, clicked or not, and the features of items and cohorts.

    Raises:
        EventsError: a file does not exist, or lacks a column.
    """
    pairs = _pairs(recipe)
    shown = pl.concat([_read(path, EVENT) for path, _ in pairs], how="vertical_relaxed")
    listed = pl.concat([_read(path, ITEM) for _, path in pairs], how="vertical_relaxed")
    users = _cohorts(shown)
    # A missing feature matches no cohort; the cleaning then rejects the row without a user.
    events = shown.join(users, on=USER_FEATURES, how="left", maintain_order="left")
    order = pl.col("behavior_policy").replace_strict(list(POLICIES), [0, 1], default=2)
    items = listed.sort(order, maintain_order=True).with_columns(item_id=ITEM_ID)
    folder = find_folder(recipe, HOME)
    return RawLog(
        Table(f"{folder}, impressions", events.drop(USER_FEATURES).with_columns(item_id=ITEM_ID)),
        COLUMNS,
        Table(f"{folder}, items", items.unique("item_id", keep="first", maintain_order=True)),
        Table(f"{folder}, cohorts", users),
    )


def find_open_bandit(recipe: Recipe) -> list[Path]:
    """Files of the events and of the items, in pairs.

    Raises:
        EventsError: the folder does not exist, or holds no pair or half a pair.
    """
    return [path for pair in _pairs(recipe) for path in pair]


def _pairs(recipe: Recipe) -> list[tuple[Path, Path]]:
    """Pairs of an events file and its items file; the joined files if they exist."""
    folder = find_folder(recipe, HOME)
    official = [
        (folder / policy / campaign / f"{campaign}.csv", folder / policy / campaign / ITEMS)
        for policy in POLICIES
        for campaign in CAMPAIGNS
    ]
    joined = (folder / JOINED, folder / JOINED_ITEMS)
    pairs = [joined] if joined[0].is_file() else official
    pairs = [pair for pair in pairs if pair[0].is_file()]
    if not pairs:
        problem = f"none of {JOINED}, random/all/all.csv and the like is in this folder"
        raise EventsError(str(folder), f"{problem}; get the files at {HOME}")
    for _, path in pairs:
        if not path.is_file():
            raise EventsError(str(path), f"no such file; get the files at {HOME}")
    return pairs


def _read(path: Path, names: Sequence[str]) -> pl.DataFrame:
    """Columns of a file, with policy and campaign: columns of the joined files, else the names of the folders."""
    try:
        if path.suffix == ".parquet":
            table = pl.scan_parquet(path)
        else:
            policy, campaign = path.parent.parent.name, path.parent.name
            table = pl.scan_csv(path, infer_schema=False).with_columns(
                behavior_policy=pl.lit(policy), campaign=pl.lit(campaign)
            )
        wanted = [*names, "behavior_policy", "campaign"]
        require_columns(str(path), table.collect_schema().names(), wanted)
        return table.select(wanted).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise EventsError(str(path), f"cannot be read: {error}") from error


def _cohorts(shown: pl.DataFrame) -> pl.DataFrame:
    """Every combination of user features, with its id: a hash, since four features are longer than an id may be."""
    features = shown.select(USER_FEATURES).unique().sort(USER_FEATURES)
    ids = [
        hashlib.blake2b("\0".join(map(str, row)).encode(), digest_size=8).hexdigest()
        for row in features.iter_rows()
    ]
    return features.with_columns(user_id=pl.Series(ids, dtype=pl.String))
