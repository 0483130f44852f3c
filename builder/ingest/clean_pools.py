"""RawPools -> CleanPools: which pool each event names, and the candidates of every pool that an event names."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from builder.errors import EventsError
from builder.ingest.columns import as_ids, as_text, require_values
from builder.ingest.sources.raw import RawPools, Table, require_columns

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CleanPools:
    """Checked pools.

    Attributes:
        source: name of their file, for errors.
        candidates: pool (int32, an index), item (text), then each candidate field (text) under `field_column`.
        of_events: index of each event's pool, in the order of the raw events, -1 for none; int32.
    """

    source: str
    candidates: pl.DataFrame
    of_events: pl.Series


def field_column(name: str) -> str:
    """Column of a candidate field; the prefix keeps it apart from our own columns."""
    return f"candidate:{name}"


def clean_pools(raw: RawPools, events: Table, fields: Sequence[str]) -> CleanPools:
    """Check the pools and number those that events name.

    Args:
        raw: the pools as a source found them.
        events: the raw events, which have the key's columns.
        fields: names of the candidate fields.

    Raises:
        EventsError: a column is missing, a pool's row lacks its key or item, or no event names a pool.
    """
    table, key = raw.table, list(raw.key)
    require_columns(table.source, table.frame.columns, [*key, raw.item, *fields])
    require_columns(events.source, events.frame.columns, key)
    for column in key:
        require_values(table, column)
    named = _number(table, events, key)
    of_events = _text_key(events, key).join(named, on=key, how="left", maintain_order="left")[
        "pool"
    ]
    _report(raw, events, of_events)
    # Rows of pools are found by their raw values: a file may have many millions.
    rows = table.frame.join(
        named.select("pool", *(pl.col(f"raw:{name}").alias(name) for name in key)), on=key
    )
    used = Table(table.source, rows)
    columns = {
        "pool": rows["pool"],
        "item": as_ids(used, raw.item),
        **{field_column(name): as_text(used, name) for name in fields},
    }
    candidates = pl.DataFrame([values.alias(name) for name, values in columns.items()])
    return CleanPools(table.source, candidates, of_events.fill_null(-1))


def _text_key(table: Table, key: Sequence[str]) -> pl.DataFrame:
    """The key's columns as text, so that a 5 of one file is a 5.0 of another."""
    return pl.DataFrame([as_text(table, name).alias(name) for name in key])


def _number(table: Table, events: Table, key: Sequence[str]) -> pl.DataFrame:
    """The pools of the file that an event names: the key as text, as `raw:…` in the file's type, and `pool`."""
    distinct = Table(table.source, table.frame.select(key).unique().sort(key))
    raw = [distinct.frame[name].alias(f"raw:{name}") for name in key]
    of_events = _text_key(events, key).unique()
    named = _text_key(distinct, key).with_columns(raw).join(of_events, on=key, how="semi")
    return named.with_columns(pool=pl.int_range(pl.len(), dtype=pl.Int32))


def _report(raw: RawPools, events: Table, of_events: pl.Series) -> None:
    num_events, without = len(of_events), of_events.null_count()
    if without == num_events:
        raise EventsError(
            events.source,
            f"columns {', '.join(raw.key)}: got no event that names a pool of {raw.table.source}, "
            "expected the values of its rows",
        )
    if without:
        template = "%s: %d of %d events name no pool of %s: they are history only"
        logger.info(template, events.source, without, num_events, raw.table.source)
