"""LREA: low-rank attention over the whole history, O(r·D) per candidate whatever L is.

Source: arXiv:2503.02542v4 (SIGIR'25), numbering of that version. Differs from the paper:
- trains the absorbed form (Eq. 9) by default, so what is trained is what is served; the paper trains the decompressed
  form (Eq. 5), `graph = "decompressed"`. Absorption is exact only where each column of W_decomp has one sign pattern.
- Eq. 9 as printed has W_compᵀ where E_compᵀ is meant.
- W_comp and W_decomp start as block poolings and learn at 1/100 of the rate: at the full rate they inject noise.
- L_non-neg (Eq. 10) is off by default: it makes the slots parallel, that is, a mean pool.
- besides slots by position (the paper's), slots by content (`slots.py`), by hash (`hash_slots.py`) and by both.
- with hash slots a candidate also reads its own slots, and the counts it finds there reach the logit directly as well.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import CtrModel, TrainOutput, UserState, slower_groups
from models.batch import Context, Slate, User
from models.blocks.frame import Frame, FrameConfig
from models.blocks.target_attention import Form, TargetAttention
from models.contract.record import StateSpec, TensorSpec
from models.contract.schema import FeatureSchema
from models.sequence.hash_slots import Family, HashSlots, allot
from models.sequence.hybrid_slots import HybridSlots
from models.sequence.slots import ContentSlots, PositionSlots, Slots


@dataclass(frozen=True)
class LREAConfig(FrameConfig):
    """LREA.

    Attributes:
        rank: r, slots.
        slots: "position" (the paper), "content", "hash", or "hybrid": content and hash.
        families: hash slots only: (item field or "item", number of slots) each, summing to the slots there are. Empty:
            the item and every field of it but the popularity, see `allot`.
        content_slots: of `rank`, for "hybrid".
        hard: content slots take an event whole, instead of a share of each.
        half_life_days: age at which an event counts one half in hash slots; 0: all count alike.
        graph: what training fits: "absorbed" (Eq. 9) or "decompressed" (Eq. 5; position slots only). What is served is
            absorbed.
        form: "concat" or "split", the two sides of Eq. 5; two models.
        exact_target: cache the history's sum, so that the split form's target term survives absorption.
        decompression: W_decomp "free", or a "softmax" over slots.
        init: of W_comp and W_decomp: "block" or "gaussian".
        position_lr: factor on the learning rate of W_comp and W_decomp.
        nonneg: λ of Eq. 11.
    """

    rank: int = 128
    slots: Literal["position", "content", "hash", "hybrid"] = "position"
    families: tuple[tuple[str, int], ...] = ()
    content_slots: int = 32
    hard: bool = False
    half_life_days: float = 0.0
    graph: Literal["absorbed", "decompressed"] = "absorbed"
    form: Form = "concat"
    exact_target: bool = False
    decompression: Literal["free", "softmax"] = "free"
    init: Literal["block", "gaussian"] = "block"
    position_lr: float = 0.01
    nonneg: float = 0.0


class LREA(CtrModel):
    """o = E_auxabsorb · φ([e_t ⊕ E_comp ⊕ e_t ⊙ E_comp] W_in) W_o, Eq. 9: both matrices have r rows, from the cache.

    Symbols: E_comp = c_k (keys), E_auxabsorb = a_k (values), both [R, D]. Outputs are divided by √L: sums over events
    grow with it.

    Raises:
        ValueError: options that exclude each other, or families that do not fit the schema or the rank.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: LREAConfig
    ) -> None:
        super().__init__()
        _check(config)
        self.schema, self.config = schema, config
        dim = config.item_width(schema)
        self.slots = _build_slots(schema, item_fields, config, dim)
        vectors, scalars = self.slots.own_dims(dim)
        self.frame = Frame(schema, item_fields, config, config.heads * dim + vectors + scalars)
        self.wide = nn.Linear(scalars, 1, bias=False) if scalars else None
        self.attention = TargetAttention(
            dim=dim, hidden=config.hidden, heads=config.heads, slope=config.slope, form=config.form,
            side=int(config.slots != "position"),
        )  # fmt: skip
        self.scale = schema.history_length**-0.5

    @property
    def trains_what_it_serves(self) -> bool:
        """False for the paper's recipe: decompressed in training, absorbed in serving."""
        return self.config.graph == "absorbed"

    def state_spec(self) -> StateSpec:
        """The profile, the slots' tensors and, if asked for, the history's sum."""
        dim = self.frame.items.dim
        spec = (TensorSpec("profile", (self.frame.profile.dim,)), *self.slots.state_spec(dim))
        return (*spec, TensorSpec("total", (dim,))) if self.config.exact_target else spec

    def encode(self, user: User) -> UserState:
        """Compress the history into the slots."""
        events = self.frame.items(user.history)  # (B, L, D)
        state = {"profile": self.frame.profile(user.fields)}
        state |= self.slots.encode(user.history, user.ages, events)
        if self.config.exact_target:
            state["total"] = events.sum(1)
        return state

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Attend from each candidate to the slots, and let it read its own."""
        target = self.frame.items(slate.items)  # (B, C, D)
        side = torch.log1p(state["counts"])[..., None] if "counts" in state else None  # (B, R, 1)
        long = self.scale * self.attention(
            target, self.slots.keys(state), state["e_auxabsorb"],
            side=side, total=state.get("total"),
        )  # fmt: skip
        vectors, scalars = self.slots.own(state, slate.items, target)
        long = torch.cat([long, vectors, scalars], -1)
        logits = self.frame.logits(state["profile"], context, target, long)
        return logits if self.wide is None else logits + self.wide(scalars).squeeze(-1)

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """The absorbed or the decompressed graph, and λ·L_non-neg."""
        state = self.encode(user)
        if self.config.graph == "decompressed" and isinstance(self.slots, PositionSlots):
            logits = self._score_decompressed(self.slots, state, user, context, slate)
        else:
            logits = self.score(state, context, slate)
        return TrainOutput(logits, self._nonneg(state))

    def _score_decompressed(
        self, slots: PositionSlots, state: UserState, user: User, context: Context, slate: Slate
    ) -> Float[Tensor, "B C"]:
        """Eq. 5: attend to events through their reconstruction Ê = W_decompᵀ E_comp, sum the events themselves."""
        events = self.frame.items(user.history)  # (B, L, D)
        keys = slots.w_decomp.mT @ state["e_comp"]  # (B, L, D)
        target = self.frame.items(slate.items)
        long = self.scale * self.attention(target, keys, events)
        return self.frame.logits(state["profile"], context, target, long)

    def _nonneg(self, state: UserState) -> Float[Tensor, ""] | None:
        """λ · Eq. 10: squared Frobenius norms of the negative parts of W_decomp and E_comp (mean over users)."""
        if not self.config.nonneg or not isinstance(self.slots, PositionSlots):
            return None
        negative = self.slots.w_decomp.clamp(max=0).square().sum()
        negative = negative + state["e_comp"].clamp(max=0).square().sum((1, 2)).mean()
        return self.config.nonneg * negative

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Position matrices learn at `position_lr` times the rate."""
        slow = self.slots.parameters() if self.config.slots == "position" else ()
        return slower_groups(self.parameters(), slow, lr, self.config.position_lr)


OPTIONS = {
    "families": ("hash", "hybrid"), "half_life_days": ("hash", "hybrid"),
    "hard": ("content", "hybrid"), "decompression": ("position",),
    "init": ("position",), "position_lr": ("position",),
}  # fmt: skip
"""What only some kinds of slots know: elsewhere it would be ignored in silence."""


def _check(config: LREAConfig) -> None:
    if config.rank < 1:
        raise ValueError(f"rank: got {config.rank}, expected at least 1")
    if config.slots != "position" and (config.graph, config.nonneg) != ("absorbed", 0):
        raise ValueError(f"slots: {config.slots!r} takes graph = 'absorbed' and nonneg = 0")
    if config.slots != "position" and config.form != "concat":
        raise ValueError(f"slots: {config.slots!r} takes form = 'concat'")
    if config.exact_target and config.form != "split":
        raise ValueError("exact_target: only the split form has a target term of its own")
    _check_options(config)
    if config.slots == "hybrid" and not 0 < config.content_slots < config.rank:
        got = config.content_slots
        raise ValueError(f"content_slots: got {got}, expected 1 to rank - 1 = {config.rank - 1}")
    if config.half_life_days < 0:
        raise ValueError(f"half_life_days: got {config.half_life_days}, expected 0 or more")


def _check_options(config: LREAConfig) -> None:
    for option, kinds in OPTIONS.items():
        is_given = getattr(config, option) != getattr(LREAConfig, option)
        if is_given and config.slots not in kinds:
            named = " or ".join(map(repr, kinds))
            raise ValueError(f"{option}: only for slots = {named}, got {config.slots!r}")


def _build_slots(schema: FeatureSchema, item_fields: Tensor, config: LREAConfig, dim: int) -> Slots:
    if config.slots == "position":
        return PositionSlots(
            length=schema.history_length, rank=config.rank,
            decompression=config.decompression, init=config.init,
        )  # fmt: skip
    if config.slots == "content":
        return ContentSlots(dim=dim, rank=config.rank, is_hard=config.hard)
    rank = config.rank - (config.content_slots if config.slots == "hybrid" else 0)
    width = max((dim - 1) // 2, 1)  # keys, their counts and the slot's own count: D numbers
    hashed = HashSlots(
        item_fields, families=_families(schema, config, rank, width), width=width,
        half_life_days=config.half_life_days,
    )  # fmt: skip
    if config.slots == "hash":
        return hashed
    return HybridSlots(
        ContentSlots(dim=dim, rank=config.content_slots, is_hard=config.hard), hashed
    )


def _families(schema: FeatureSchema, config: LREAConfig, rank: int, width: int) -> list[Family]:
    names = [field.name for field in schema.item_fields]
    # The item family hashes the catalogue row, not the item id: rare items share one id but not one row.
    sizes = {field.name: field.size for field in schema.item_fields} | {"item": schema.num_items}
    chosen = [name for name, _ in config.families] or [n for n in names if n != "popularity"]
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise ValueError(f"families: {unknown} are not item fields; there are {names}")
    slots = [num for _, num in config.families]
    if not slots:
        slots = allot([sizes[name] for name in chosen], rank, width)
    if sum(slots) != rank:
        raise ValueError(f"families: {config.families} do not sum to rank = {rank}")
    if min(slots) < 1:
        raise ValueError(f"families: got {config.families}, expected at least 1 slot each")
    return [
        Family(-1 if name == "item" else names.index(name), sizes[name], num)
        for name, num in zip(chosen, slots, strict=True)
    ]
