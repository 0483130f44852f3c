"""Missing values: rows that a recipe leaves out or refuses for them (`data.nulls`)."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from builder.errors import EventsError
from builder.ingest.columns import missing, refuse
from builder.ingest.sources.raw import RawLog, RawPools, Table
from builder.recipe.reading import OnNull
from models.contract.errors import did_you_mean

logger = logging.getLogger(__name__)


def settle_nulls(raw: RawLog, nulls: Mapping[str, OnNull]) -> RawLog:
    """Drop or refuse rows without a value, in every table that has the column.

    Args:
        raw: the tables.
        nulls: column -> what to do with its missing values; of other columns, nothing is done here.

    Raises:
        EventsError: no table has a column of `nulls`, a row is refused, or no event is left.
    """
    if not nulls:
        return raw
    pools = raw.pools
    tables = (raw.events, raw.items, raw.users, pools.table if pools else None)
    _require_known(raw.events.source, nulls, [table for table in tables if table is not None])
    events, items, users, pool_table = (
        None if table is None else _settled(table, nulls) for table in tables
    )
    if events is None or events.frame.is_empty():
        raise EventsError(
            raw.events.source, 'data.nulls: got "drop" for columns that leave no event'
        )
    if pools is not None and pool_table is not None:
        pools = RawPools(pool_table, pools.key, pools.item)
    return replace(raw, events=events, items=items, users=users, pools=pools)


def _settled(table: Table, nulls: Mapping[str, OnNull]) -> Table:
    for column, choice in nulls.items():
        if column not in table.frame.columns:
            continue
        values = table.frame[column]
        is_missing = missing(values)
        if choice == "refuse":
            refuse(table, column, values, is_missing, "no value", "a value in every row")
        if choice == "drop" and is_missing.any():
            count = f"{int(is_missing.sum())} of {len(values)} rows"
            logger.info("%s: dropped %s without a value of %r", table.source, count, column)
            table = replace(table, frame=table.frame.filter(~is_missing))
    return table


def _require_known(source: str, nulls: Mapping[str, OnNull], tables: list[Table]) -> None:
    known = list(dict.fromkeys(name for table in tables for name in table.frame.columns))
    for column in nulls:
        if column not in known:
            hint = did_you_mean(column, known)
            raise EventsError(
                source,
                f"data.nulls: got {column!r}, expected a column that the recipe reads: {', '.join(known)}{hint}",
            )
