"""Taobao, UserBehavior.csv: nine days of clicks, purchases, carts and favourites of a million users.

The file may not be redistributed: get it at https://tianchi.aliyun.com/dataset/649 and unpack it. Its 100 million lines
have no header:

    user_id,item_id,category_id,behavior_type (pv, buy, cart or fav),timestamp (s)

Clicks (pv) are the events. An item's category is that of its first click. Some lines have times years away from the
nine days; they are dropped, and their number is logged.
"""

import logging
from pathlib import Path

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import RawLog, Table, find_folder
from builder.recipe.data import Columns
from builder.recipe.recipe import Recipe

logger = logging.getLogger(__name__)

HOME = "https://tianchi.aliyun.com/dataset/649"
FILE = "UserBehavior.csv"
NAMES = ("user_id", "item_id", "category_id", "behavior_type", "timestamp")
COLUMNS = Columns(user="user_id", item="item_id", time="timestamp")
BEHAVIORS = ("pv", "buy", "cart", "fav")
NUMBERS = {
    "user_id": pl.UInt32,
    "item_id": pl.UInt32,
    "category_id": pl.UInt32,
    "timestamp": pl.Int64,
}
"""Columns of whole numbers, and the smallest types that hold them: 89 million clicks are in memory."""
START_S, END_S = 1_511_539_200, 1_512_316_800
"""Nine days from 2017-11-25 00:00 in UTC+8, the users' time zone."""


def read_taobao(recipe: Recipe) -> RawLog:
    """Read the clicks of the nine days, and the category of every clicked item.

    Raises:
        EventsError: the file does not exist, or a line has another format.
    """
    (path,) = find_taobao(recipe)
    try:
        lines = _scan(path)
        _require_format(path, lines)
        clicks = _clicks(path, lines)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise EventsError(str(path), f"cannot be read: {error}") from error
    first = pl.col("category_id").get(pl.col("timestamp").arg_min()).alias("category")
    items = clicks.group_by("item_id").agg(first).sort("item_id")
    events = clicks.select("user_id", "item_id", "timestamp")
    return RawLog(Table(str(path), events), COLUMNS, Table(str(path), items), users=None)


def find_taobao(recipe: Recipe) -> list[Path]:
    """The one file in the recipe's folder.

    Raises:
        EventsError: the folder or the file does not exist.
    """
    path = find_folder(recipe, HOME) / FILE
    if not path.is_file():
        raise EventsError(str(path), f"no such file; get it at {HOME}")
    return [path]


def _scan(path: Path) -> pl.LazyFrame:
    """Fields of every line as text: missing fields are null, and `more` holds what follows the last field.

    Lines are read as one column and then split: polars would reject a line of another width without naming it.
    """
    lines = pl.scan_csv(
        path,
        has_header=False,
        schema={"text": pl.String},
        separator="\x01",
        quote_char=None,
        row_index_name="line",
        row_index_offset=1,
    )
    fields = pl.col("text").str.split_exact(",", len(NAMES)).struct.rename_fields([*NAMES, "more"])
    return lines.select("line", fields).unnest("text")


def _require_format(path: Path, lines: pl.LazyFrame) -> None:
    """Raise EventsError for the first line with another format. This is a separate pass over the file."""
    good = {
        name: pl.col(name).cast(kind, strict=False).is_not_null() for name, kind in NUMBERS.items()
    }
    good["behavior_type"] = pl.col("behavior_type").is_in(BEHAVIORS)
    good["more"] = pl.col("more").is_null()
    wrong = pl.coalesce(pl.when(~check).then(pl.lit(name)) for name, check in good.items())
    bad_lines = lines.with_columns(wrong=wrong).filter(pl.col("wrong").is_not_null()).head(1)
    for line in bad_lines.collect(engine="streaming").iter_rows(named=True):
        place, name, value = f"{path}, line {line['line']}", line["wrong"], line[line["wrong"]]
        if name == "more" or value is None:
            number = "more" if name == "more" else sum(line[name] is not None for name in NAMES)
            expected = f"{len(NAMES)}: {', '.join(NAMES)}"
            raise EventsError(place, f"columns: got {number}, expected {expected}")
        expected = "a whole number" if name in NUMBERS else f"one of {', '.join(BEHAVIORS)}"
        raise EventsError(place, f"column {name!r}: got {value!r}, expected {expected}")


def _clicks(path: Path, lines: pl.LazyFrame) -> pl.DataFrame:
    """Clicks of the nine days, as numbers."""
    typed = [pl.col(name).cast(kind) for name, kind in NUMBERS.items()]
    clicks = lines.filter(pl.col("behavior_type") == "pv").select(typed).collect(engine="streaming")
    kept = clicks.filter(pl.col("timestamp").is_between(START_S, END_S, closed="left"))
    logger.info(
        "%s: dropped %d of %d clicks, with times outside 2017-11-25 to 2017-12-03 (UTC+8)",
        path,
        len(clicks) - len(kept),
        len(clicks),
    )
    return kept
