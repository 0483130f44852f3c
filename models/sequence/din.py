"""DIN: target attention over every event of the history. O(L) online. LREA approximates it.

Source: arXiv:1706.06978. Differs from the paper:
- the score unit is LREA's (three terms, one hidden Leaky ReLU layer), so that DIN and LREA differ only in what they
  attend to.
- events carry their ages, as in SIM and TWIN.
- `match` adds exact counts of the events that share an item or a field with the candidate: an upper bound for what
  LREA's hash slots can count.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import CtrModel, UserState
from models.batch import Context, Slate, User
from models.blocks.embedding import embedding
from models.blocks.frame import Frame, FrameConfig
from models.blocks.match_counts import MatchCounts
from models.blocks.target_attention import TargetAttention
from models.contract.age import NUM_AGES
from models.contract.record import StateSpec, TensorSpec
from models.contract.schema import PADDING, FeatureSchema


@dataclass(frozen=True)
class DINConfig(FrameConfig):
    """Options of DIN.

    Attributes:
        long: whether to attend to the whole history; False uses the short-term history only ("DIN w/o long seq.").
        age_dim: width of the embedding of an event's age.
        match: whether to count the candidate's matches in the whole history too; needs `long`.
    """

    long: bool = True
    age_dim: int = 4
    match: bool = False


class DIN(CtrModel):
    """The state holds embeddings [L, D] and ages [L] of the latest L events. Score: O(L·D·h) per candidate.

    Raises:
        ValueError: `match` is on, and `long` is off.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: DINConfig
    ) -> None:
        super().__init__()
        if config.match and not config.long:
            raise ValueError(
                "match: got true, expected false: long is false, and it counts in the long history"
            )
        self.schema, self.config = schema, config
        dim = config.item_width(schema)
        self.match = MatchCounts(item_fields, schema.item_fields) if config.match else None
        counts = self.match.dim if self.match is not None else 0
        long_dim = config.heads * dim + counts if config.long else 0
        self.frame = Frame(schema, item_fields, config, long_dim)
        self.wide = nn.Linear(counts, 1, bias=False) if counts else None
        self.long = self.ages = None
        if config.long:
            self.long = TargetAttention(
                dim=dim,
                hidden=config.hidden,
                heads=config.heads,
                slope=config.slope,
                side=config.age_dim,
            )
            self.ages = embedding(NUM_AGES, config.age_dim, config.embedding_std)
        self.scale = schema.history_length**-0.5

    def state_spec(self) -> StateSpec:
        """The profile; with `long`, the events' embeddings and ages; with `match`, their catalogue rows."""
        profile = TensorSpec("profile", (self.frame.profile.dim,))
        if self.long is None:
            return (profile,)
        length = self.schema.history_length
        events = TensorSpec("events", (length, self.frame.items.dim))
        spec = (profile, events, TensorSpec("event_ages", (length,), "int32"))
        return spec if self.match is None else (*spec, TensorSpec("rows", (length,), "int32"))

    def encode(self, user: User) -> UserState:
        """Embed the profile and the history."""
        state = {"profile": self.frame.profile(user.fields)}
        if self.long is not None:
            state["events"] = self.frame.items(user.history)
            state["event_ages"] = user.ages.int()
        if self.match is not None:
            state["rows"] = user.history.int()
        return state

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Attend from each candidate to every event."""
        target = self.frame.items(slate.items)  # (B, C, D)
        if self.long is None or self.ages is None:
            return self.frame.logits(state["profile"], context, target, None)
        events, ages = state["events"], state["event_ages"].long()  # (B, L, D), (B, L)
        long = self.scale * self.long(
            target, events, events, side=self.ages(ages), padding=(ages == PADDING).sum(1)
        )  # (B, C, H·D)
        if self.match is None or self.wide is None:
            return self.frame.logits(state["profile"], context, target, long)
        counts = self.match(slate.items, state["rows"].long()).to(target.dtype)  # (B, C, F)
        long = torch.cat([long, counts], -1)
        logits = self.frame.logits(state["profile"], context, target, long)
        wide: Tensor = self.wide(counts)
        return logits + wide.squeeze(-1)
