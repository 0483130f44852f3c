"""The rows of the comparison, most important first: label -> history length and blocks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from builder.experiments.promotions.blocks.base import Block
from builder.experiments.promotions.blocks.counts import Counts, Sketch
from builder.experiments.promotions.blocks.hash_slots import HashSlots
from builder.experiments.promotions.blocks.kernel import Kernel, ProjectedKernel
from builder.experiments.promotions.blocks.pooling import Linear, Mean
from builder.experiments.promotions.blocks.position_slots import PaperSlots, PositionSlots
from builder.experiments.promotions.blocks.random_features import RandomFeatures
from builder.experiments.promotions.blocks.search import (
    CategorySearch,
    Collisions,
    HashSearch,
    KernelSearch,
    SoftSearch,
)
from builder.experiments.promotions.blocks.slot_kernel import AnchorSlots, ClusterSlots
from builder.experiments.promotions.blocks.target_score import TargetScore
from builder.experiments.promotions.embeddings import Items, Placement
from builder.experiments.promotions.network import Network
from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.task import base_log_odds

LONG, MIDDLE, SHORT = 2048, 512, 64


@dataclass(frozen=True)
class Row:
    """A model of the comparison.

    Attributes:
        title: in tables.
        make: builds its blocks.
        length: L, the number of latest events that it sees.
        seeds: number of trainings.
    """

    title: str
    make: Callable[["Parts"], list[Block]]
    length: int = LONG
    seeds: int = 3


@dataclass(frozen=True)
class Parts:
    """Inputs of a block's constructor.

    Attributes:
        item_fields: of every catalogue row.
        anchors: catalogue rows of well-known items, each of another type, the best-known first.
        length: L.
    """

    item_fields: Tensor
    anchors: Tensor
    length: int


ROWS: dict[str, Row] = {
    "kernel": Row("kernel attention, all events", lambda p: [Kernel()], seeds=5),
    "counts": Row("counts only", lambda p: [Counts(p.item_fields)], seeds=5),
    "none": Row("no history", lambda p: [], seeds=3),
    "cluster-64": Row("cluster slots, r = 64", lambda p: [ClusterSlots(64)], seeds=5),
    "din": Row("DIN (φ), all events", lambda p: [TargetScore()], seeds=3),
    "kernel+counts": Row(
        "kernel attention and counts", lambda p: [Kernel(), Counts(p.item_fields)], seeds=3
    ),
    "anchor-64": Row("content slots, r = 64", lambda p: [AnchorSlots(p.anchors[:64])]),
    "anchor-64-sketch": Row(
        "content slots, r = 64, and count sketch",
        lambda p: [AnchorSlots(p.anchors[:64]), Sketch(p.item_fields)],
        seeds=5,
    ),
    "cluster-64-sketch": Row(
        "cluster slots, r = 64, and count sketch",
        lambda p: [ClusterSlots(64), Sketch(p.item_fields)],
        seeds=5,
    ),
    "sketch": Row("count sketch only", lambda p: [Sketch(p.item_fields)]),
    "twin": Row("TWIN, k = 64", lambda p: [KernelSearch()]),
    "sim-hard": Row("SIM hard, k = 64", lambda p: [CategorySearch(p.item_fields)]),
    "eta": Row("ETA, k = 64", lambda p: [HashSearch()]),
    "sim-soft": Row("SIM soft, k = 64", lambda p: [SoftSearch()]),
    "sdim": Row("SDIM", lambda p: [Collisions()]),
    "position-128": Row("LREA absorbed, r = 128", lambda p: [PositionSlots(p.length)]),
    "lrea-paper-128": Row("LREA as in the paper, r = 128", lambda p: [PaperSlots(p.length)]),
    "hash": Row("hash slots, no keys", lambda p: [HashSlots(p.item_fields)]),
    "hash+keys": Row(
        "hash slots and counts by key", lambda p: [HashSlots(p.item_fields), Counts(p.item_fields)]
    ),
    "anchor-64-distilled": Row(
        "content slots, r = 64, distilled", lambda p: [AnchorSlots(p.anchors[:64], distilled=True)]
    ),
    "linear": Row("linear attention", lambda p: [Linear()]),
    "mean": Row("mean pooling", lambda p: [Mean()]),
    "kernel-512": Row("kernel attention, L = 512", lambda p: [Kernel()], length=MIDDLE),
    "counts-512": Row("counts only, L = 512", lambda p: [Counts(p.item_fields)], length=MIDDLE),
    "cluster-32": Row("cluster slots, r = 32", lambda p: [ClusterSlots(32)]),
    "cluster-128": Row("cluster slots, r = 128", lambda p: [ClusterSlots(128)]),
    "anchor-128": Row("content slots, r = 128", lambda p: [AnchorSlots(p.anchors[:128])]),
    "features-128": Row("random features, r = 128", lambda p: [RandomFeatures(128)]),
    "din+counts": Row("DIN (φ) and counts", lambda p: [TargetScore(), Counts(p.item_fields)]),
    "projected": Row("kernel by projection, all events", lambda p: [ProjectedKernel()]),
    "kernel-64": Row("kernel attention, L = 64", lambda p: [Kernel()], length=SHORT),
    "din-512": Row("DIN (φ), L = 512", lambda p: [TargetScore()], length=MIDDLE),
}


def build(label: str, prepared: Prepared, seed: int, length: int) -> Network:
    """A fresh network of a row.

    Raises:
        KeyError: no such label.
    """
    if label not in ROWS:
        raise KeyError(f"label: got {label!r}, expected one of {', '.join(ROWS)}")
    torch.manual_seed(seed)
    item_fields = torch.from_numpy(prepared.item_fields).long()
    parts = Parts(item_fields, torch.from_numpy(find_anchors(prepared, 128)), length)
    displays, mailers = int(prepared.pool_display.max()) + 1, int(prepared.pool_mailer.max()) + 1
    return Network(
        ROWS[label].make(parts),
        Items(item_fields),
        Placement(item_fields, displays, mailers),
        base_log_odds(prepared),
    )


def find_anchors(prepared: Prepared, count: int) -> np.ndarray:
    """The best-selling items before the first slate, one of each product type (all of them, where types are few)."""
    early = prepared.event_row[prepared.event_hour < prepared.hour.min()]
    sold = np.bincount(early, minlength=len(prepared.item_fields))
    order = np.argsort(-sold, kind="stable")
    order = order[order > 0]
    _, first = np.unique(prepared.item_fields[order, 0], return_index=True)
    chosen = order[np.sort(first)]
    rest = np.setdiff1d(order, chosen, assume_unique=True)
    return np.concatenate([chosen, rest])[:count].astype(np.int64)
