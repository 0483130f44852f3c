"""LREA: low-rank attention over the whole history, O(r·D) per candidate whatever L is.

Source: arXiv:2503.02542v4 (SIGIR'25), numbering of that version. Differs from the paper:
- trains the absorbed form (Eq. 9) by default, so what is trained is what is served; the paper trains the decompressed
  form (Eq. 5), `graph = "decompressed"`. Absorption is exact only where each column of W_decomp has one sign pattern.
- Eq. 9 as printed has W_compᵀ where E_compᵀ is meant.
- W_comp and W_decomp start as block poolings and learn at 1/100 of the rate: at the full rate they inject noise.
- L_non-neg (Eq. 10) is off by default: it makes the slots parallel, that is, a mean pool.
- besides slots by position (the paper's), slots by content and by hash (`slots.py`).
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.base import CtrModel, TrainOutput, UserState
from models.batch import Context, Slate, User
from models.blocks.frame import Frame, FrameConfig
from models.blocks.target_attention import Form, TargetAttention
from models.record import StateSpec, TensorSpec
from models.schema import FeatureSchema
from models.sequence.slots import ContentSlots, HashSlots, PositionSlots


@dataclass(frozen=True)
class LREAConfig(FrameConfig):
    """LREA.

    Attributes:
        rank: r, slots.
        slots: "position" (the paper), "content" or "hash".
        families: hash slots only: (item field or "item", number of slots) each, summing to `rank`. Empty: half to the
            item, half to the recipe's first item field.
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
    slots: Literal["position", "content", "hash"] = "position"
    families: tuple[tuple[str, int], ...] = ()
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
        dim = config.item_dim + config.field_dim * (len(schema.item_fields) - 1)
        self.slots = _build_slots(schema, item_fields, config, dim)
        own = self.slots.own_dim(dim) if isinstance(self.slots, HashSlots) else 0
        self.frame = Frame(schema, item_fields, config, config.heads * dim + own)
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
        state |= self.slots.encode(user.history, events)
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
        if isinstance(self.slots, HashSlots):
            long = torch.cat([long, self.slots.own(state, slate.items, target)], -1)
        return self.frame.logits(state["profile"], context, target, long)

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
        slow = list(self.slots.parameters()) if self.config.slots == "position" else []
        ids = {id(parameter) for parameter in slow}
        fast = [parameter for parameter in self.parameters() if id(parameter) not in ids]
        groups = [{"params": fast, "lr": lr}]
        return [*groups, {"params": slow, "lr": lr * self.config.position_lr}] if slow else groups


def _check(config: LREAConfig) -> None:
    if config.rank < 1:
        raise ValueError(f"rank: got {config.rank}, expected at least 1")
    if config.slots != "position" and (config.graph, config.nonneg) != ("absorbed", 0):
        raise ValueError(f"slots: {config.slots!r} takes graph = 'absorbed' and nonneg = 0")
    if config.slots != "position" and config.form != "concat":
        raise ValueError(f"slots: {config.slots!r} takes form = 'concat'")
    if config.exact_target and config.form != "split":
        raise ValueError("exact_target: only the split form has a target term of its own")
    if config.families and config.slots != "hash":
        raise ValueError("families: only for slots = 'hash'")


def _build_slots(
    schema: FeatureSchema, item_fields: Tensor, config: LREAConfig, dim: int
) -> PositionSlots | ContentSlots | HashSlots:
    if config.slots == "position":
        return PositionSlots(
            length=schema.history_length, rank=config.rank,
            decompression=config.decompression, init=config.init,
        )  # fmt: skip
    if config.slots == "content":
        return ContentSlots(dim=dim, rank=config.rank)
    return HashSlots(item_fields, families=_families(schema, config), width=dim)


def _families(schema: FeatureSchema, config: LREAConfig) -> list[tuple[int, int]]:
    names = [field.name for field in schema.item_fields]
    described = [name for name in names[1:] if name != "popularity"]
    default = [("item", config.rank)]
    if described:
        default = [("item", config.rank - config.rank // 2), (described[0], config.rank // 2)]
    families = list(config.families) or default
    unknown = [name for name, _ in families if name not in names]
    if unknown:
        raise ValueError(f"families: {unknown} are not item fields; there are {names}")
    if sum(slots for _, slots in families) != config.rank:
        raise ValueError(f"families: {families} do not sum to rank = {config.rank}")
    if min(slots for _, slots in families) < 1:
        raise ValueError(f"families: got {families}, expected at least 1 slot each")
    # The item family hashes the catalogue row, not the item id: rare items share one id but not one row.
    return [(-1 if name == "item" else names.index(name), slots) for name, slots in families]
