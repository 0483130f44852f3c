"""The item catalogue as arrays: dense ids of every item's fields, and how often each item was seen."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.ingest.dense import Readers, Values, encode_columns, schema_fields
from builder.recipe.recipe import Recipe
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN, Field


@dataclass(frozen=True)
class Catalogue:
    """V rows: 0 padding, 1 unknown, then the items.

    Attributes:
        fields: dense ids of each row's fields: the item's own id, the recipe's fields, popularity. [V, F].
        values: what these ids stand for.
        readers: of the fields that are not categorical.
        schema: names and sizes of the fields.
        train_popularity: events that training may count, [V].
        popularity: events of the whole log, [V].
    """

    fields: NDArray[np.int32]
    values: Values
    readers: Readers
    schema: tuple[Field, ...]
    train_popularity: NDArray[np.int64]
    popularity: NDArray[np.int64]

    def column(self, field: str | None) -> NDArray[np.int32]:
        """Dense ids of one field, [V]; all 0 for None."""
        if field is None:
            return np.zeros(len(self.fields), np.int32)
        names = [item_field.name for item_field in self.schema]
        return np.ascontiguousarray(self.fields[:, names.index(field)])


def make_catalogue(
    items: pl.DataFrame,
    item: NDArray[np.int32],
    is_known: NDArray[np.bool_],
    is_popular: NDArray[np.bool_],
    recipe: Recipe,
) -> Catalogue:
    """Encode the items' fields and count their events.

    Args:
        items: item and its fields as text, one row per item.
        item: catalogue row of each event, [E].
        is_known: events that training may count, [E].
        is_popular: events that the field "popularity" counts, [E].
        recipe: names the fields.
    """
    num_rows = len(items) + FIRST_KNOWN
    # Shown and clicked events count alike: a count of clicks would tell a training target of an item that was seen
    # once what its label is.
    popularity = np.bincount(item, minlength=num_rows)
    train_popularity = np.bincount(item[is_known], minlength=num_rows)
    counts = train_popularity[FIRST_KNOWN:]
    own_ids = _own_ids(counts, recipe.data.min_item_count)
    columns = {name: name for name in recipe.data.item_fields}
    encoded = encode_columns(items, columns, pl.Series(counts > 0), recipe.data.fields)
    buckets = _popularity_buckets(np.bincount(item[is_popular], minlength=num_rows)[FIRST_KNOWN:])
    num_buckets = int(buckets.max()) + 1 - FIRST_KNOWN
    return Catalogue(
        fields=_with_reserved_rows(own_ids, encoded.ids, buckets),
        values={
            "item": items["item"].filter(pl.Series(own_ids != UNKNOWN)).to_list(),
            **encoded.values,
            "popularity": [_bucket_text(bucket) for bucket in range(num_buckets)],
        },
        readers=encoded.readers,
        schema=(
            Field("item", int(own_ids.max()) + 1),
            *schema_fields(encoded.values),
            Field("popularity", num_buckets + FIRST_KNOWN),
        ),
        train_popularity=train_popularity,
        popularity=popularity,
    )


def _own_ids(counts: NDArray[np.int64], min_count: int) -> NDArray[np.int32]:
    """Number the items that are seen often enough; the others share UNKNOWN."""
    is_frequent = counts >= min_count
    return np.where(is_frequent, np.cumsum(is_frequent) - 1 + FIRST_KNOWN, UNKNOWN).astype(np.int32)


def _popularity_buckets(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Dense ids of log2 buckets: 0, 1, 2-3, 4-7, … events. A count says how much an item's embedding can know."""
    return np.ceil(np.log2(counts + 1)).astype(np.int32) + FIRST_KNOWN


def _bucket_text(bucket: int) -> str:
    """Range of the counts in a bucket, such as 4-7."""
    low, high = (1 << bucket) // 2, (1 << bucket) - 1
    return f"{low}-{high}" if low < high else f"{high}"


def _with_reserved_rows(
    own_ids: NDArray[np.int32], field_ids: NDArray[np.int32], buckets: NDArray[np.int32]
) -> NDArray[np.int32]:
    rows = np.concatenate([own_ids[:, None], field_ids, buckets[:, None]], axis=1)
    reserved = np.repeat(np.array([[PADDING], [UNKNOWN]], np.int32), rows.shape[1], axis=1)
    return np.concatenate([reserved, rows]).astype(np.int32)
