"""LREA: low-rank attention over the whole history. O(r·D) per candidate, whatever L is.

Source: arXiv:2503.02542v4 (SIGIR'25); equations are numbered as in that version. Differs from the paper:
- it trains the absorbed form (Eq. 9) by default, the form that is served. The paper trains the decompressed form
  (Eq. 5), `graph = "decompressed"`. Absorption is exact only where each column of W_decomp has one sign pattern.
- Eq. 9 as printed has W_compᵀ where E_compᵀ is meant.
- W_comp and W_decomp start as block poolings and learn at 1/100 of the rate: at the full rate they add noise.
- L_non-neg (Eq. 10) is off by default: it makes the slots parallel, so that LREA becomes a mean pool.
- besides slots by position (the paper's), there are slots by content (`slots.py`), by hash (`hash_slots.py`) and by
  both (`hybrid_slots.py`).
- with hash slots, a candidate also reads its own slots, and their counts are also added to the logit by a linear layer.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import CtrModel, TrainOutput, UserState, slower_groups
from models.batch import Context, Slate, User
from models.blocks.checks import check_at_least
from models.blocks.frame import Frame, FrameConfig
from models.blocks.target_attention import Form, TargetAttention
from models.contract.record import StateSpec, TensorSpec
from models.contract.schema import FeatureSchema
from models.sequence.hash_slots import Family, HashSlots, allot
from models.sequence.hybrid_slots import HybridSlots
from models.sequence.slots import ContentSlots, PositionSlots, Slots


@dataclass(frozen=True)
class LREAConfig(FrameConfig):
    """Options of LREA.

    Attributes:
        rank: r, number of slots.
        slots: kind of slots: "position" (the paper), "content", "hash", or "hybrid" (content and hash).
        families: for hash slots, pairs of an item field or "item" and its number of slots, which sum to the number of
            hash slots. Empty: the item and all its fields but the popularity, with the slots of `allot`.
        content_slots: for "hybrid", the number of content slots among `rank`.
        hard: whether an event goes to one content slot, instead of a share to each.
        half_life_days: age at which an event counts one half in hash slots; 0 counts all events alike.
        graph: the graph that is trained: "absorbed" (Eq. 9) or "decompressed" (Eq. 5; position slots only). The
            absorbed one is served.
        form: "concat" or "split", the two sides of Eq. 5, which are two models.
        exact_target: whether the state holds the history's sum, so that absorption keeps the split form's target term.
        decompression: W_decomp is "free", or a "softmax" over slots.
        init: initial weights of W_comp and W_decomp: "block" or "gaussian".
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
    """o = E_auxabsorb · φ([e_t ⊕ E_comp ⊕ e_t ⊙ E_comp] W_in) W_o (Eq. 9). Both matrices are cached and have r rows.

    Symbols: E_comp = c_k (keys), E_auxabsorb = a_k (values), both [R, D]. Outputs are divided by √L, since sums over
    events grow with L.

    Raises:
        ValueError: options exclude each other, or the families do not fit the schema or the rank.
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
            dim=dim,
            hidden=config.hidden,
            heads=config.heads,
            slope=config.slope,
            form=config.form,
            side=int(config.slots != "position"),
        )
        self.scale = schema.history_length**-0.5

    @property
    def trains_what_it_serves(self) -> bool:
        """False for the paper's training, which fits the decompressed form and serves the absorbed one."""
        return self.config.graph == "absorbed"

    def state_spec(self) -> StateSpec:
        """The profile, the slots' tensors and, with `exact_target`, the history's sum."""
        dim = self.frame.items.dim
        spec = (TensorSpec("profile", (self.frame.profile.dim,)), *self.slots.state_spec(dim))
        return (*spec, TensorSpec("total", (dim,))) if self.config.exact_target else spec

    def encode(self, user: User) -> UserState:
        """Fold the history into the slots."""
        events = self.frame.items(user.history)  # (B, L, D)
        state = {"profile": self.frame.profile(user.fields)}
        state |= self.slots.encode(user.history, user.ages, events)
        if self.config.exact_target:
            state["total"] = events.sum(1)
        return state

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Attend from each candidate to all slots, and read its own slots."""
        target = self.frame.items(slate.items)  # (B, C, D)
        side = torch.log1p(state["counts"])[..., None] if "counts" in state else None  # (B, R, 1)
        keys, values = self.slots.keys(state), state["e_auxabsorb"]  # (B, R, D) each
        attended = self.attention(target, keys, values, side=side, total=state.get("total"))
        vectors, scalars = self.slots.own(state, slate.items, target)
        long = torch.cat([self.scale * attended, vectors, scalars], -1)
        logits = self.frame.logits(state["profile"], context, target, long)
        return logits if self.wide is None else logits + self.wide(scalars).squeeze(-1)

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """Logits of the absorbed or the decompressed form, and λ·L_non-neg as the penalty."""
        state = self.encode(user)
        if self.config.graph == "decompressed" and isinstance(self.slots, PositionSlots):
            logits = self._score_decompressed(self.slots, state, user, context, slate)
        else:
            logits = self.score(state, context, slate)
        return TrainOutput(logits, self._nonneg(state))

    def _score_decompressed(
        self, slots: PositionSlots, state: UserState, user: User, context: Context, slate: Slate
    ) -> Float[Tensor, "B C"]:
        """Eq. 5: attend to the reconstructed events Ê = W_decompᵀ E_comp, and sum the events themselves."""
        events = self.frame.items(user.history)  # (B, L, D)
        keys = slots.w_decomp.mT @ state["e_comp"]  # (B, L, D)
        target = self.frame.items(slate.items)
        long = self.scale * self.attention(target, keys, events)
        return self.frame.logits(state["profile"], context, target, long)

    def _nonneg(self, state: UserState) -> Float[Tensor, ""] | None:
        """λ · Eq. 10: squared Frobenius norms of the negative parts of W_decomp and of E_comp (mean over users)."""
        if not self.config.nonneg or not isinstance(self.slots, PositionSlots):
            return None
        negative = self.slots.w_decomp.clamp(max=0).square().sum()
        negative = negative + state["e_comp"].clamp(max=0).square().sum((1, 2)).mean()
        return self.config.nonneg * negative

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """W_comp and W_decomp learn at `position_lr` times the rate."""
        slow = self.slots.parameters() if self.config.slots == "position" else ()
        return slower_groups(self.parameters(), slow, lr, self.config.position_lr)


OPTIONS = {
    "families": ("hash", "hybrid"),
    "half_life_days": ("hash", "hybrid"),
    "hard": ("content", "hybrid"),
    "decompression": ("position",),
    "init": ("position",),
    "position_lr": ("position",),
}
"""Option -> the kinds of slots that read it. With other kinds it is an error, since it would have no effect."""


def _check(config: LREAConfig) -> None:
    check_at_least(1, rank=config.rank)
    if config.slots != "position":
        for name, expected in (("graph", "absorbed"), ("nonneg", 0), ("form", "concat")):
            got = getattr(config, name)
            if got != expected:
                raise ValueError(
                    f"{name}: got {got!r}, expected {expected!r} with slots = {config.slots!r}"
                )
    if config.exact_target and config.form != "split":
        raise ValueError(
            "exact_target: got true, expected false: only form = 'split' has a target term"
        )
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
            expected = " or ".join(map(repr, kinds))
            raise ValueError(f"{option}: only for slots = {expected}, got {config.slots!r}")


def _build_slots(schema: FeatureSchema, item_fields: Tensor, config: LREAConfig, dim: int) -> Slots:
    if config.slots == "position":
        return PositionSlots(
            length=schema.history_length,
            rank=config.rank,
            decompression=config.decompression,
            init=config.init,
        )
    if config.slots == "content":
        return ContentSlots(dim=dim, rank=config.rank, is_hard=config.hard)
    rank = config.rank - (config.content_slots if config.slots == "hybrid" else 0)
    width = max(
        (dim - 1) // 2, 1
    )  # keys, their counts and the number of events: D numbers per slot
    hashed = HashSlots(
        item_fields,
        families=_families(schema, config, rank, width),
        width=width,
        half_life_days=config.half_life_days,
    )
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
        raise ValueError(f"families: got {unknown}, expected item fields among {names}")
    slots = [num for _, num in config.families]
    if not slots:
        slots = allot([sizes[name] for name in chosen], rank, width)
    if sum(slots) != rank:
        raise ValueError(f"families: got {config.families}, expected slots that sum to {rank}")
    if min(slots) < 1:
        raise ValueError(f"families: got {config.families}, expected at least 1 slot each")
    return [
        Family(-1 if name == "item" else names.index(name), sizes[name], num)
        for name, num in zip(chosen, slots, strict=True)
    ]
