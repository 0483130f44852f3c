"""LREA: low-rank attention over the whole history. O(r·D) per candidate, whatever L is.

Source: arXiv:2503.02542v4 (SIGIR'25), `slots = "position"`. Differs from the paper:
- it trains the absorbed form (Eq. 9) by default, the form that is served. The paper trains the decompressed form
  (Eq. 5), `graph = "decompressed"`.
- Eq. 9 as printed has W_compᵀ where E_compᵀ is meant.
- W_comp and W_decomp start as block poolings and learn at 1/100 of the rate: at the full rate they add noise.
- L_non-neg (Eq. 10) is off by default: it makes the slots parallel, so that LREA becomes a mean pool.
- the score starts as likeness, and the head sees the masses (`models/blocks/attention/target_score.py`).

With a slot for each item (`slots = "items"`), attention to r items is attention to all their events: it differs from
attention to the whole history only where a history has more than r different items (`models/readers/item_slots.py`);
so do their counts (`counts = "slots"`) from exact ones.
The other kinds of slots keep the r × D state and drop the rest: a kernel on unit-length fields reads them by moments
(`models/readers/slots.py`), or they are sums of its random features (`models/readers/features.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Int
from torch import Tensor

from models.blocks.attention.target_score import TargetScore
from models.blocks.checks import check_at_least
from models.blocks.lookup.matching import match_keys
from models.contract.schema import FeatureSchema
from models.readers.base import Reader
from models.readers.counted_item_slots import CountedItemSlots
from models.readers.features import RandomFeatures
from models.readers.item_scores import ItemScore, KernelOfItems, PhiOfItems
from models.readers.item_slots import ItemSlots
from models.readers.position_slots import Graph, Init, PositionSlots
from models.readers.slots import ClusterSlots, ContentSlots, HashSlots, find_anchors
from models.sequence.sequence_model import SequenceConfig, SequenceModel


@dataclass(frozen=True)
class LREAConfig(SequenceConfig):
    """Options of LREA.

    Attributes:
        rank: r, number of slots, or of random features.
        slots: how an event finds its slot: by "position" (the paper), by likeness to catalogue items ("content"), by
            clusters of the user's own events ("cluster"), by hashes of its item and fields ("hash"), or by its item
            ("items"). "features" sums random features of the kernel instead.
        score: how item slots are scored: by the "kernel", or by DIN's "phi" with the age of the item's latest event
            (with counts = "slots" only). Position slots are scored by φ, all others by the kernel.
        hidden: h, width of φ.
        graph: the graph that is trained: "absorbed" (Eq. 9) or "decompressed" (Eq. 5; position slots only). The
            absorbed one is served.
        init: initial weights of W_comp and W_decomp: "block" or "gaussian" (position slots only).
        position_lr: factor on the learning rate of W_comp and W_decomp.
        nonneg: λ of Eq. 11 (position slots only).
    """

    rank: int = 64
    slots: Literal["position", "content", "cluster", "hash", "items", "features"] = "content"
    score: Literal["kernel", "phi"] = "kernel"
    hidden: int = 32
    graph: Graph = "absorbed"
    init: Init = "block"
    position_lr: float = 0.01
    nonneg: float = 0.0


class LREA(SequenceModel):
    """A state of r rows, with counts of a fixed size if `counts` names them.

    Raises:
        ValueError: options exclude each other, or the rank is too small.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: LREAConfig
    ) -> None:
        _check(config)
        super().__init__(schema, item_fields, config, [_slots(schema, item_fields, config)])
        self.config = config

    @property
    def slow_share(self) -> float:
        """`position_lr`."""
        return self.config.position_lr


def _slots(schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: LREAConfig) -> Reader:
    layout, rank, heads = config.layout(schema), config.rank, config.heads
    if config.slots == "content":
        names = [field.name for field in schema.item_fields]
        popularity = names.index("popularity") if "popularity" in names else None
        return ContentSlots(layout, find_anchors(item_fields, popularity, rank), heads)
    if config.slots == "cluster":
        return ClusterSlots(layout, rank, heads)
    if config.slots == "hash":
        return HashSlots(layout, match_keys(item_fields, layout.columns), rank, heads)
    if config.slots == "items":
        score = _item_score(layout.widths, config)
        if config.counts == "slots":
            keys = match_keys(item_fields, layout.columns)
            return CountedItemSlots(schema.history_length, rank, score, keys)
        return ItemSlots(schema.history_length, rank, score)
    if config.slots == "features":
        return RandomFeatures(layout, rank, heads)
    return PositionSlots(
        length=schema.history_length,
        rank=rank,
        score=TargetScore(layout.widths, hidden=config.hidden, heads=heads, slope=config.slope),
        dim=layout.dim,
        graph=config.graph,
        init=config.init,
        nonneg=config.nonneg,
    )


def _item_score(widths: Sequence[int], config: LREAConfig) -> ItemScore:
    if config.score == "phi":
        heads, slope = config.heads, config.slope
        return PhiOfItems(widths, hidden=config.hidden, heads=heads, slope=slope)
    return KernelOfItems(widths, config.heads)


POSITION_ONLY = ("graph", "init", "position_lr", "nonneg")
"""Options that other kinds of slots do not read. With those it is an error to set them."""


def _check(config: LREAConfig) -> None:
    check_at_least(1, rank=config.rank)
    if config.score == "phi" and (config.slots, config.counts) != ("items", "slots"):
        raise ValueError(
            f"score: got 'phi' with slots = {config.slots!r} and counts = {config.counts!r}, "
            "expected slots = 'items' and counts = 'slots'"
        )
    if config.slots == "position":
        return
    for option in POSITION_ONLY:
        if getattr(config, option) != getattr(LREAConfig, option):
            raise ValueError(f"{option}: only for slots = 'position', got {config.slots!r}")
