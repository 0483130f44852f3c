"""Combinations of item fields, and a trained model with a row for each (`models/contract/prototypes.py`).

Training sees no prototypes: the rows are added to the checkpoint when it is exported. Weights stay as they are.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from builder.checkpoint import ITEM_FIELDS, Checkpoint
from builder.ingest.events import Events
from models.batch import Batch, Slate
from models.contract.prototypes import Prototypes
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN

POPULARITY = "popularity"
Ids = NDArray[np.int32]


def make_prototypes(events: Events) -> Prototypes | None:
    """Combinations of the fields of items that training has seen; None for items without fields.

    Beside whole combinations there are those of the first fields alone, of the last fields alone, and of each single
    field, for new items that share no more. There are at most as many as items; those that most items share are kept.
    """
    names = _names(events)
    if not names:
        return None
    has_trained = np.asarray(events.train_popularity) > 0
    ids = np.asarray(events.item_fields)[has_trained][:, 1 : 1 + len(names)]
    ids = np.where(ids == UNKNOWN, PADDING, ids)
    found = [np.unique(ids * mask, axis=0, return_counts=True) for mask in masks(len(names))]
    rows, counts = (np.concatenate(part) for part in zip(*found, strict=True))
    rows, first = np.unique(
        rows, axis=0, return_index=True
    )  # an item's unknown field is left out, too
    order = np.argsort(-counts[first], kind="stable")[: len(events.vocabulary.items)]
    kept = rows[np.sort(order)]
    kept = kept[kept.any(1)]
    if not len(kept):
        return None
    fields = {name: events.item_values[name] for name in names}
    readers = events.vocabulary.readers.get("item", {})
    return Prototypes(fields, [tuple(row) for row in kept.tolist()], readers)


def masks(num_fields: int) -> Ids:
    """Which fields combinations have, [masks, num_fields]: all, first ones, last ones, single ones."""
    first = np.tril(np.ones((num_fields, num_fields), np.int32))
    every = np.concatenate([first, np.triu(first.T), np.eye(num_fields, dtype=np.int32)])
    return np.unique(every, axis=0)


def with_prototypes(
    checkpoint: Checkpoint, events: Events, prototypes: Prototypes | None
) -> Checkpoint:
    """The checkpoint of a model whose catalogue has the prototypes behind the items.

    A new item has no id, so that the id's part of its vector and its bias are zero. Its popularity is the lowest that
    training has seen: that of an item without earlier events, where training has such items.
    """
    if prototypes is None:
        return checkpoint
    catalogue = checkpoint.weights[ITEM_FIELDS]
    added = torch.zeros(len(prototypes), catalogue.shape[1], dtype=catalogue.dtype)
    added[:, 1 : 1 + len(prototypes.fields)] = torch.tensor(prototypes.rows)
    names = [field.name for field in checkpoint.schema.item_fields]
    if POPULARITY in names:
        column = names.index(POPULARITY)
        has_trained = np.asarray(events.train_popularity) > 0
        added[:, column] = int(np.asarray(events.item_fields)[has_trained, column].min())
    wide = torch.cat([catalogue, added])
    # Some models hold the catalogue twice; safetensors refuses tensors that share memory.
    last = ITEM_FIELDS.rpartition(".")[2]
    weights = {
        name: wide.clone() if name.rpartition(".")[2] == last else values
        for name, values in checkpoint.weights.items()
    }
    schema = replace(checkpoint.schema, num_items=len(wide))
    return replace(checkpoint, schema=schema, weights=weights)


def with_some(sample: Batch, first: int, count: int) -> Batch:
    """A sample some of whose candidates, and latest events, are prototypes: the graphs are compared on these, too.

    Args:
        sample: users and slates.
        first: row of the first prototype.
        count: number of prototypes.
    """
    rng = np.random.default_rng(0)
    items, history = sample.slate.items.clone(), sample.user.history.clone()
    items[::3, ::2] = torch.from_numpy(rng.integers(first, first + count, items[::3, ::2].shape))
    latest = history[::3, -1:]
    drawn = torch.from_numpy(rng.integers(first, first + count, latest.shape))
    history[::3, -1:] = torch.where(latest >= FIRST_KNOWN, drawn, latest)
    user = replace(sample.user, history=history)
    return replace(sample, user=user, slate=Slate(items, sample.slate.fields))


def _names(events: Events) -> Sequence[str]:
    """Item fields beside the id and the popularity; none for events that were saved without their values."""
    names = [field.name for field in events.schema.item_fields[1:]]
    fields = [name for name in names if name != POPULARITY]
    return fields if all(name in events.item_values for name in fields) else []
