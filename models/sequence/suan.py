"""SUAN: a stack of unified attention blocks over the history, with the candidate as its last token.

Source: SUAN (arXiv:2508.15326), and the authors' released code for what the text at hand does not say. Differs:
- the gate pools over a token and the tokens before it (`gate = "prefix"`). So no event depends on a candidate, and a
  user's keys and values are encoded offline. The released gate pools over all tokens, the candidate included
  (`gate = "mean"`): then every candidate needs its own pass over the history.
- events and candidates share their embeddings, so no alignment is needed between them. A learned token is added to the
  profile's fields, since a log may have none.
- times are ages in buckets (`models/contract/age.py`), exact to half an octave.
- the head also gets the short-term interest, as in every model here. It is the shared head: no Dice, and no norm on the
  logit.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import CtrModel, UserState, slower_groups
from models.batch import Context, Slate, User
from models.blocks.attention.causal_attention import (
    RelativeBias,
    dense_attention,
    merge_heads,
    seen_from,
    sparse_attention,
    split_heads,
    target_attention,
)
from models.blocks.attention.uab import Norm, UnifiedAttentionBlock
from models.blocks.checks import check_at_least
from models.blocks.embedding import embedding
from models.blocks.frame import FIELD_STD, Frame, FrameConfig
from models.blocks.reading import Candidates, Read
from models.contract.age import NUM_AGES
from models.contract.schema import PADDING, FeatureSchema
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import HISTORY

NOW = 1
"""Age bucket of a candidate: that of age 0."""


@dataclass(frozen=True)
class SUANConfig(FrameConfig):
    """Options of SUAN.

    Attributes:
        blocks: number of unified attention blocks.
        block_heads: heads of each block.
        block_dropout: dropout on the output of each of a block's three parts.
        block_lr: factor on the blocks' learning rate: at the tables' rate, Adagrad's first steps destroy the blocks'
            initial weights.
        length: number of latest events that are read; 0 for all.
        window: k, number of nearest tokens that each event attends to; 0 for all earlier ones (SUAN).
        stride: r; each event also attends to every r-th of the further ones; 1 for all.
        target_window: k of a candidate; 0 takes `window`. With `target_stride` it sets how many events the state keeps.
        target_stride: r of a candidate; 0 takes `stride`; 1 attends to all.
        norm: position of the norms, see `UnifiedAttentionBlock`: "pre" or "released".
        gate: tokens that the gate pools over: "prefix", or the "mean" of all, as released.
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
    """The state holds, for each block, keys and values of the events that a candidate attends to, and the gate's sum.

    Raises:
        ValueError: a size is too small, or `block_heads` does not divide an event's width.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: SUANConfig
    ) -> None:
        super().__init__()
        _check(config)
        self.schema, self.config = schema, config
        self.length = min(config.length or schema.history_length, schema.history_length)
        dim = config.layout(schema).dim
        self.frame = Frame(schema, item_fields, config, masses=0, pooled=1, has_length=True)
        self.ages = embedding(NUM_AGES, config.field_dim, FIELD_STD)
        self.age_to_token = nn.Linear(config.field_dim, dim, bias=False)
        self.places = nn.Parameter(0.02 * torch.randn(self.length + 1, dim))
        self.token = nn.Parameter(FIELD_STD * torch.randn(1, config.profile_dim))
        self.bias = RelativeBias(self.length + 1)
        self.blocks = nn.ModuleList(
            UnifiedAttentionBlock(
                dim=dim,
                profile_dim=config.profile_dim,
                heads=config.block_heads,
                norm=config.norm,
                dropout=config.block_dropout,
            )
            for _ in range(config.blocks)
        )
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
        """Number of weights in the blocks: the model's size in the scaling law."""
        return sum(weight.numel() for weight in self.blocks.parameters())

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The blocks learn at `block_lr` times the rate."""
        slow = list(self.blocks.parameters())
        items = self.frame.id_weights, self.config.id_rate
        return slower_groups(self.parameters(), lr, (slow, self.config.block_lr), items)

    def state_spec(self) -> StateSpec:
        """For a prefix gate, keys and values of each block; for the released gate, the events themselves."""
        profile = TensorSpec("profile", (self.frame.profile_dim,))
        if self.config.gate == "mean":
            rows, ages = (
                TensorSpec(name, (self.length,), "int32", filled="last", ids=ids)
                for name, ids in HISTORY
            )
            return profile, rows, ages
        kept, dim = len(self.get_buffer("kept")), self.frame.items.dim
        return (
            profile,
            TensorSpec("block_keys", (self.config.blocks * kept, dim)),
            TensorSpec("block_values", (self.config.blocks * kept, dim)),
            TensorSpec("gate_sums", (self.config.blocks, dim)),
            TensorSpec("num_events", (1,)),
            TensorSpec("event_ages", (kept,), "int32", ids="ages"),
        )

    def encode(self, user: User) -> UserState:
        """Run the events through the blocks, up to the last one's keys and values: its output is not needed."""
        rows, ages = user.history[:, -self.length :], user.ages[:, -self.length :]  # (B, L) each
        flat = self.frame.encode_profile(User(rows, ages, user.fields))
        if self.config.gate == "mean":
            return {"profile": flat, "rows": rows.int(), "event_ages": ages.int()}
        profile = self._profile(flat)
        x = self._tokens(self.frame.items(rows), ages, self.places[:-1])
        is_real = (rows != PADDING).to(x.dtype)[..., None]  # (B, L, 1)
        keys, values, sums = [], [], []
        for depth, block in enumerate(self._stack):
            residual, (query, key, value) = block.enter(x)
            keys.append(key[:, self.get_buffer("kept")])
            values.append(value[:, self.get_buffer("kept")])
            attended = self._attend(query, key, value, ages)
            residual, v, c = block.align(residual, attended, profile)
            sums.append(((v + c) * is_real).sum(1))
            if depth + 1 < len(self.blocks):
                x = block.finish(residual, v, c, _prefix_mean(v + c, is_real))
        return {
            "profile": flat,
            "block_keys": torch.cat(keys, 1),
            "block_values": torch.cat(values, 1),
            "gate_sums": torch.stack(sums, 1),
            "num_events": is_real.sum(1),
            "event_ages": ages[:, self.get_buffer("kept")].int(),
        }

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Run the candidates through the blocks: all in one pass, or, for the released gate, one pass for each."""
        look_up = self.frame.items.look_up(slate.items.numel())
        candidates = Candidates(slate.items, look_up(slate.items))
        target = candidates.vectors  # (B, C, D)
        if self.config.gate == "mean":
            long = self.target_rows_one_by_one(state, target)
        else:
            long = self._target_rows(state, target)
        read = Read(long[..., :0], long[:, :, None])
        return self.frame.logits(state["profile"], context, slate, candidates, [read], look_up)

    def set_base_log_odds(self, log_odds: float) -> None:
        """Start the logit at a base rate."""
        self.frame.set_base_log_odds(log_odds)

    def _target_rows(
        self, state: UserState, target: Float[Tensor, "B C D"]
    ) -> Float[Tensor, "B C D"]:
        """The last block's output for each candidate, in one pass. O(K·D) per candidate and block."""
        profile = self._profile(state["profile"])
        now = torch.full_like(state["event_ages"][:, :1], NOW)
        x = self._tokens(target, now, self.places[-1:])
        bias = self._target_bias(state["event_ages"].long())
        keys, values = (
            state[name].chunk(len(self.blocks), 1) for name in ("block_keys", "block_values")
        )
        for depth, block in enumerate(self._stack):
            residual, own = block.enter(x)
            attended = target_attention(own, keys[depth], values[depth], bias, block.heads)
            residual, v, c = block.align(residual, attended, profile)
            gate_sum, num_tokens = state["gate_sums"][:, depth, None], state["num_events"] + 1
            x = block.finish(residual, v, c, (gate_sum + v + c) / num_tokens[:, None])
        out: Tensor = self.last_norm(x)
        return out

    def _target_bias(self, ages: Int[Tensor, "B K"]) -> Float[Tensor, "B K+1"]:
        """R of a candidate and each kept event (padding is masked), and last of the candidate and itself."""
        now = torch.full_like(ages[:, :1], NOW)
        distance = self.length - self.get_buffer("kept")  # (K,)
        to_events = self.bias(distance, now, ages)
        return torch.cat([to_events, self.bias(torch.zeros_like(distance[:1]), now, now)], 1)

    def target_rows_one_by_one(
        self, state: UserState, target: Float[Tensor, "B C D"]
    ) -> Float[Tensor, "B C D"]:
        """The paper's form: a pass over the events and one candidate, for each candidate. C times the cost of encoding.

        Args:
            state: tensors `profile`, `rows` and `event_ages` of all events.
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
            residual, (query, key, value) = block.enter(x)
            attended = self._attend(query, key, value, ages)
            if self.config.target_window or self.config.target_stride:
                own = query[:, -1:], key[:, -1:], value[:, -1:]
                seen = key[:, kept], value[:, kept]
                row = target_attention(own, *seen, bias, block.heads)
                attended = torch.cat([attended[:, :-1], row], 1)
            residual, v, c = block.align(residual, attended, profile)
            if self.config.gate == "mean":
                pooled = ((v + c) * is_real).sum(1, keepdim=True) / is_real.sum(1, keepdim=True)
            else:
                pooled = _prefix_mean(v + c, is_real)
            x = block.finish(residual, v, c, pooled)
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
        """X₀: the sum of the embeddings of each token's item, age and position."""
        out: Tensor = items + self.age_to_token(self.ages(ages.long())) + places
        return out

    def _profile(self, profile: Float[Tensor, "B P"]) -> Float[Tensor, "B F E"]:
        """U: the learned token, and a token per user field."""
        width, fields = self.config.profile_dim, len(self.schema.user_fields)
        token = self.token.expand(profile.shape[0], 1, width)
        if not fields:
            return token
        return torch.cat([token, profile[:, :-1].reshape(-1, fields, width)], 1)


def _prefix_mean(
    x: Float[Tensor, "B N D"], is_real: Float[Tensor, "B N 1"]
) -> Float[Tensor, "B N D"]:
    """Mean over each token and the real tokens before it."""
    real = x * is_real
    return (real.cumsum(1) - real + x) / (is_real.cumsum(1) - is_real + 1)


def _check(config: SUANConfig) -> None:
    check_at_least(1, blocks=config.blocks, block_heads=config.block_heads, stride=config.stride)
    check_at_least(
        0,
        window=config.window,
        length=config.length,
        target_window=config.target_window,
        target_stride=config.target_stride,
    )
