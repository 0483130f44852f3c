"""SUAN and LightSUAN: a stack of unified attention blocks over the history with the target as its last token.

Source: SUAN (2508.15326), and the authors' released code where it says more than the text that was at hand. Differs:
- the gate pools over a token and those before it (`gate = "prefix"`), so that no event depends on a candidate and a
  user's keys and values are encoded offline. The released gate pools over all tokens, the candidate included
  (`gate = "mean"`): then every candidate needs a pass of its own over the history.
- events and candidates are embedded alike, so their slots need no alignment; one learned token stands beside the
  profile's fields, since a log may have none.
- times are known as ages in buckets (`models/contract/age.py`), to half an octave.
- candidates get the short-term interest of every model here beside the target row, and the shared head without Dice
  and without a norm on the logit.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import CtrModel, UserState, slower_groups
from models.batch import Context, Slate, User
from models.blocks.causal_attention import (
    RelativeBias,
    dense_attention,
    merge_heads,
    seen_from,
    sparse_attention,
    split_heads,
    target_attention,
)
from models.blocks.embedding import embedding
from models.blocks.event_rows import rows_spec, rows_state
from models.blocks.frame import Frame, FrameConfig
from models.blocks.uab import Norm, UnifiedAttentionBlock
from models.contract.age import NUM_AGES
from models.contract.record import StateSpec, TensorSpec
from models.contract.schema import PADDING, FeatureSchema

NOW = 1
"""Age of a candidate: none."""


@dataclass(frozen=True)
class SUANConfig(FrameConfig):
    """SUAN.

    Attributes:
        blocks: unified attention blocks.
        block_heads: heads of each.
        block_dropout: on the output of each of a block's three parts.
        block_lr: times the learning rate: Adagrad's first steps at the tables' rate undo the blocks' start.
        length: latest events it reads; 0: all there are.
        window: k, nearest tokens that each attends to; 0: to all before it (SUAN).
        stride: r, of the further ones every r-th; 1: all.
        target_window: k of a candidate; 0: as the events'. With its r, it decides how many events the state keeps.
        target_stride: r of a candidate; 0: as the events'; 1: it attends to all.
        norm: where norms stand, "pre" or as "released".
        gate: what it pools over: "prefix" or, as released, the "mean" of all tokens.
    """

    blocks: int = 2
    block_heads: int = 2
    block_dropout: float = 0.0
    block_lr: float = 0.3
    length: int = 0
    window: int = 0
    stride: int = 1
    target_window: int = 0
    target_stride: int = 0
    norm: Norm = "pre"
    gate: Literal["prefix", "mean"] = "prefix"


class SUAN(CtrModel):
    """The state holds each block's keys and values of the events that a candidate attends to, and the gates' sums.

    Raises:
        ValueError: a size below 1 (`window` and `length`: below 0), or heads that do not divide an event's width.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: SUANConfig
    ) -> None:
        super().__init__()
        _check(config)
        self.schema, self.config = schema, config
        self.length = min(config.length or schema.history_length, schema.history_length)
        dim = config.item_width(schema)
        self.frame = Frame(schema, item_fields, config, dim)
        std = config.embedding_std
        self.ages = embedding(NUM_AGES, config.field_dim, std)
        self.age_to_token = nn.Linear(config.field_dim, dim, bias=False)
        self.places = nn.Parameter(0.02 * torch.randn(self.length + 1, dim))
        self.token = nn.Parameter(std * torch.randn(1, config.profile_dim))
        self.bias = RelativeBias(self.length + 1)
        self.blocks = nn.ModuleList(
            UnifiedAttentionBlock(
                dim=dim, profile_dim=config.profile_dim, heads=config.block_heads,
                norm=config.norm, dropout=config.block_dropout,
            )
            for _ in range(config.blocks)
        )  # fmt: skip
        self.last_norm = nn.RMSNorm(dim, eps=1e-6) if config.norm == "pre" else nn.Identity()
        kept = seen_from(
            self.length,
            config.target_window or config.window,
            config.target_stride or config.stride,
        )
        self.register_buffer("kept", kept, persistent=False)

    @property
    def _stack(self) -> list[UnifiedAttentionBlock]:
        return [block for block in self.blocks if isinstance(block, UnifiedAttentionBlock)]

    @property
    def num_block_weights(self) -> int:
        """Weights of the blocks: what the scaling law calls the model's size."""
        return sum(weight.numel() for weight in self.blocks.parameters())

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Blocks learn at `block_lr` times the rate."""
        slow = self.blocks.parameters()
        return slower_groups(self.parameters(), slow, lr, self.config.block_lr)

    def state_spec(self) -> StateSpec:
        """Keys and values of each block for a prefix gate; the events themselves for the released one."""
        if self.config.gate == "mean":
            return rows_spec(self.frame.profile.dim, self.length)
        profile = TensorSpec("profile", (self.frame.profile.dim,))
        kept, dim = len(self.get_buffer("kept")), self.frame.items.dim
        return (
            profile,
            TensorSpec("block_keys", (self.config.blocks * kept, dim)),
            TensorSpec("block_values", (self.config.blocks * kept, dim)),
            TensorSpec("gate_sums", (self.config.blocks, dim)),
            TensorSpec("num_events", (1,)),
            TensorSpec("event_ages", (kept,), "int32"),
        )

    def encode(self, user: User) -> UserState:
        """Run the events through the blocks; what the last block would make of them nobody reads."""
        flat = self.frame.profile(user.fields)
        if self.config.gate == "mean":
            return rows_state(flat, user, self.length)
        rows, ages, profile = (
            user.history[:, -self.length :], user.ages[:, -self.length :], self._profile(flat),
        )  # fmt: skip
        x = self._tokens(self.frame.items(rows), ages, self.places[:-1])
        is_real = (rows != PADDING).to(x.dtype)[..., None]  # (B, L, 1)
        keys, values, sums = [], [], []
        for depth, block in enumerate(self._stack):
            carried, (query, key, value) = block.enter(x)
            keys.append(key[:, self.get_buffer("kept")])
            values.append(value[:, self.get_buffer("kept")])
            past, v, c = block.align(carried, self._attend(query, key, value, ages), profile)
            sums.append(((v + c) * is_real).sum(1))
            if depth + 1 < len(self.blocks):
                x = block.finish(past, v, c, _prefix_mean(v + c, is_real))
        return {
            "profile": flat,
            "block_keys": torch.cat(keys, 1),
            "block_values": torch.cat(values, 1),
            "gate_sums": torch.stack(sums, 1),
            "num_events": is_real.sum(1),
            "event_ages": ages[:, self.get_buffer("kept")].int(),
        }

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Candidates against the events' keys and values; by a pass for each if the gate needs it."""
        target = self.frame.items(slate.items)  # (B, C, D)
        if self.config.gate == "mean":
            long = self.target_rows_one_by_one(state, target)
        else:
            long = self._target_rows(state, target)
        return self.frame.logits(state["profile"], context, target, long)

    def _target_rows(
        self, state: UserState, target: Float[Tensor, "B C D"]
    ) -> Float[Tensor, "B C D"]:
        """The last block's row of each candidate, all in one pass. O(K·D) per candidate and block."""
        profile = self._profile(state["profile"])
        now = torch.full_like(state["event_ages"][:, :1], NOW)
        x = self._tokens(target, now, self.places[-1:])
        bias = self._target_bias(state["event_ages"].long())
        keys, values = (
            state[name].chunk(len(self.blocks), 1) for name in ("block_keys", "block_values")
        )
        for depth, block in enumerate(self._stack):
            carried, own = block.enter(x)
            attended = target_attention(own, keys[depth], values[depth], bias, block.heads)
            past, v, c = block.align(carried, attended, profile)
            pooled = (state["gate_sums"][:, depth, None] + v + c) / (
                state["num_events"][:, None] + 1
            )
            x = block.finish(past, v, c, pooled)
        out: Tensor = self.last_norm(x)
        return out

    def _target_bias(self, ages: Int[Tensor, "B K"]) -> Float[Tensor, "B K+1"]:
        """Of a candidate to the kept events, padding at -∞, and to itself."""
        now = torch.full_like(ages[:, :1], NOW)
        distance = self.length - self.get_buffer("kept")  # (K,)
        to_events = self.bias(distance, now, ages)
        return torch.cat([to_events, self.bias(torch.zeros_like(distance[:1]), now, now)], 1)

    def target_rows_one_by_one(
        self, state: UserState, target: Float[Tensor, "B C D"]
    ) -> Float[Tensor, "B C D"]:
        """As written in the paper: a pass over the events and one candidate, for each. O(C·(L + 1)·…).

        Args:
            state: with `profile`, `rows` and `event_ages` of all events.
            target: embeddings of candidates.
        """
        B, C, D = target.shape
        user = torch.arange(B * C, device=target.device) // C
        rows, ages, flat = (state[name][user] for name in ("rows", "event_ages", "profile"))
        profile, ages = self._profile(flat), ages.long()
        ages = torch.cat([ages, torch.full_like(ages[:, :1], NOW)], 1)
        x = torch.cat([self.frame.items(rows.long()), target.reshape(B * C, 1, D)], 1)
        x = self._tokens(x, ages, self.places)
        is_real = (ages != PADDING).to(x.dtype)[..., None]
        kept = self.get_buffer("kept")
        bias = self._target_bias(ages[:, kept])
        for block in self._stack:
            carried, (query, key, value) = block.enter(x)
            attended = self._attend(query, key, value, ages)
            if self.config.target_window or self.config.target_stride:
                own = query[:, -1:], key[:, -1:], value[:, -1:]
                seen = key[:, kept], value[:, kept]
                row = target_attention(own, *seen, bias, block.heads)
                attended = torch.cat([attended[:, :-1], row], 1)
            past, v, c = block.align(carried, attended, profile)
            if self.config.gate == "mean":
                pooled = ((v + c) * is_real).sum(1, keepdim=True) / is_real.sum(1, keepdim=True)
            else:
                pooled = _prefix_mean(v + c, is_real)
            x = block.finish(past, v, c, pooled)
        out: Tensor = self.last_norm(x[:, -1]).view(B, C, D)
        return out

    def _attend(
        self,
        query: Float[Tensor, "B N D"],
        key: Float[Tensor, "B N D"],
        value: Float[Tensor, "B N D"],
        ages: Int[Tensor, "B N"],
    ) -> Float[Tensor, "B N D"]:
        config = self.config
        heads = config.block_heads
        qkv = split_heads(query, heads), split_heads(key, heads), split_heads(value, heads)
        if not config.window or config.stride == 1 or config.window >= query.shape[1]:
            return merge_heads(dense_attention(qkv, ages, self.bias))
        return merge_heads(
            sparse_attention(qkv, ages, self.bias, window=config.window, stride=config.stride)
        )

    def _tokens(
        self,
        items: Float[Tensor, "B N D"],
        ages: Int[Tensor, "B #N"],
        places: Float[Tensor, "#N D"],
    ) -> Float[Tensor, "B N D"]:
        """X₀: an event's embedding, its age's, its place's."""
        out: Tensor = items + self.age_to_token(self.ages(ages.long())) + places
        return out

    def _profile(self, profile: Float[Tensor, "B P"]) -> Float[Tensor, "B F E"]:
        """U: a token per user field, and the learned one."""
        width, fields = self.config.profile_dim, len(self.schema.user_fields)
        token = self.token.expand(profile.shape[0], 1, width)
        return torch.cat([token, profile.view(-1, fields, width)], 1) if fields else token


def _prefix_mean(
    x: Float[Tensor, "B N D"], is_real: Float[Tensor, "B N 1"]
) -> Float[Tensor, "B N D"]:
    """Of each token and the real ones before it."""
    real = x * is_real
    return (real.cumsum(1) - real + x) / (is_real.cumsum(1) - is_real + 1)


def _check(config: SUANConfig) -> None:
    least_of = {
        "blocks": 1, "block_heads": 1, "stride": 1, "window": 0, "length": 0, "target_window": 0,
        "target_stride": 0,
    }  # fmt: skip
    for name, least in least_of.items():
        if getattr(config, name) < least:
            raise ValueError(f"{name}: got {getattr(config, name)}, expected at least {least}")
