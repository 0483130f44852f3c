"""CleanPools -> Pools: arrays of the pools that a part's slates use."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.errors import EventsError
from builder.ingest.clean import POOL, CleanLog
from builder.ingest.clean_pools import CleanPools, field_column
from builder.ingest.dense import Readers, Values, dense_ids, encode_columns
from builder.ingest.pools import NO_POOL, Pools, smallest_unsigned
from builder.recipe.field_rules import FieldRule
from models.contract.errors import shown
from models.contract.schema import FIRST_KNOWN, UNKNOWN

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AssembledPools:
    """Pools as arrays.

    Attributes:
        pools: the pools that events of a part name.
        event_pool: index of each event's pool, `NO_POOL` for none; int32 [E].
        values: candidate field -> raw values in the order of their dense ids.
        readers: of the candidate fields that are not categorical.
    """

    pools: Pools
    event_pool: NDArray[np.int32]
    values: Values
    readers: Readers


def assemble_pools(
    log: CleanLog,
    part: NDArray[np.int8],
    is_known: NDArray[np.bool_],
    fields: Sequence[str],
    rules: Mapping[str, FieldRule],
) -> AssembledPools | None:
    """Make arrays of a log's pools; None for a log without.

    Args:
        log: the checked tables.
        part: part of each event as a place in `PARTS`, -1 for none, [E].
        is_known: events that training may take values from, [E].
        fields: names of the candidate fields.
        rules: field -> what its values are.

    Raises:
        EventsError: a pool has an item that is not in the catalogue.
    """
    if log.pools is None:
        return None
    event_pool = np.where(part >= 0, log.events[POOL].to_numpy(), NO_POOL)
    rows, item = _rows(log.pools, event_pool, log.items["item"])
    known_pools = np.unique(event_pool[is_known & (event_pool != NO_POOL)])
    is_trained = pl.Series(np.isin(rows["pool"].to_numpy(), known_pools))
    columns = {name: field_column(name) for name in fields}
    times_s = _first_times(log)[rows["pool"].to_numpy()]
    ids, values, readers = encode_columns(rows, columns, is_trained, rules, times_s)
    # Pools that no part uses are gone: the others are numbered anew, in the old order.
    kept, sizes = np.unique(rows["pool"].to_numpy(), return_counts=True)
    numbers = np.full(int(event_pool.max(initial=0)) + 2, NO_POOL, np.int32)
    numbers[kept] = np.arange(len(kept))
    size = max((len(known) for known in values.values()), default=0) + FIRST_KNOWN
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    pools = Pools(first, item, smallest_unsigned(ids, size))
    return AssembledPools(pools, numbers[event_pool], values, readers)


def _rows(
    pools: CleanPools, event_pool: NDArray[np.int32], items: pl.Series
) -> tuple[pl.DataFrame, NDArray[np.int32]]:
    """Candidates of the used pools by pool and catalogue row, each once; and their catalogue rows."""
    used = pl.Series(np.unique(event_pool[event_pool != NO_POOL]), dtype=pl.Int32)
    rows = pools.candidates.filter(pl.col("pool").is_in(used.implode()))
    item = dense_ids(rows["item"], items.to_list())
    _require_listed(pools.source, rows["item"], item)
    key = rows["pool"].to_numpy().astype(np.int64) * (len(items) + FIRST_KNOWN) + item
    first = np.unique(key, return_index=True)[1]
    if len(first) < len(key):
        again = len(key) - len(first)
        logger.info("%s: %d rows repeat an item of a pool; the first counts", pools.source, again)
    return rows[first], item[first]


def _first_times(log: CleanLog) -> NDArray[np.int64]:
    """Epoch second of the first event that names each pool: no age of a candidate is measured from a later moment."""
    pool = log.events[POOL].to_numpy()
    first_s = np.full(int(pool.max(initial=NO_POOL)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_s, pool[pool != NO_POOL], log.times_s[pool != NO_POOL])
    return first_s


def _require_listed(source: str, names: pl.Series, item: NDArray[np.int32]) -> None:
    unlisted = np.flatnonzero(item == UNKNOWN)
    if len(unlisted):
        raise EventsError(
            source,
            f"items: got {len(unlisted)} of {len(item)} rows with an item that is not in the catalogue "
            f"(first: {shown(names[int(unlisted[0])])}), expected items of data.items or of the events",
        )
