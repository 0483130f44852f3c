"""DIN: target attention over every event. What LREA approximates; linear in L online.

Source: 1706.06978. Differs from the paper: the score unit is LREA's (three terms, one hidden Leaky ReLU layer), so that
DIN and LREA differ in the length of what they attend to and in nothing else.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from models.base import CtrModel, UserState
from models.batch import Context, Slate, User
from models.blocks.frame import Frame, FrameConfig
from models.blocks.target_attention import TargetAttention
from models.record import StateSpec, TensorSpec
from models.schema import FeatureSchema


@dataclass(frozen=True)
class DINConfig(FrameConfig):
    """DIN.

    Attributes:
        long: attend to the whole history; False leaves the short-term history only ("DIN w/o long seq.").
    """

    long: bool = True


class DIN(CtrModel):
    """State: the embeddings of the latest L events, [L, D]. Score: O(B·L·D·h)."""

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: DINConfig
    ) -> None:
        super().__init__()
        self.schema, self.config = schema, config
        dim = config.item_dim + config.field_dim * (len(schema.item_fields) - 1)
        self.frame = Frame(schema, item_fields, config, config.heads * dim if config.long else 0)
        self.long = (
            TargetAttention(dim=dim, hidden=config.hidden, heads=config.heads, slope=config.slope)
            if config.long
            else None
        )
        self.scale = schema.history_length**-0.5

    def state_spec(self) -> StateSpec:
        """The profile and, if long, the history's embeddings."""
        profile = TensorSpec("profile", (self.frame.profile.dim,))
        if self.long is None:
            return (profile,)
        return (profile, TensorSpec("events", (self.schema.history_length, self.frame.items.dim)))

    def encode(self, user: User) -> UserState:
        """Embed the profile and the history."""
        state = {"profile": self.frame.profile(user.fields)}
        if self.long is not None:
            state["events"] = self.frame.items(user.history)
        return state

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Attend from each candidate to every event."""
        target = self.frame.items(slate.items)  # (B, C, D)
        long = None
        if self.long is not None:
            events = state["events"]  # (B, L, D)
            long = self.long(target, events, events) * self.scale  # (B, C, H·D)
        return self.frame.logits(state["profile"], context, target, long)
