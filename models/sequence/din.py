"""DIN: target attention over every event. What LREA approximates; linear in L online.

Source: 1706.06978. Differs from the paper: the score unit is LREA's (three terms, one hidden Leaky ReLU layer), so that
DIN and LREA differ in what they attend to and in nothing else; and it sees each event's age, as SIM and TWIN do.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from models.age import NUM_AGES
from models.base import CtrModel, UserState
from models.batch import Context, Slate, User
from models.blocks.embedding import embedding
from models.blocks.frame import Frame, FrameConfig
from models.blocks.target_attention import TargetAttention
from models.record import StateSpec, TensorSpec
from models.schema import PADDING, FeatureSchema


@dataclass(frozen=True)
class DINConfig(FrameConfig):
    """DIN.

    Attributes:
        long: attend to the whole history; False leaves the short-term history only ("DIN w/o long seq.").
        age_dim: width of the embedding of an event's age.
    """

    long: bool = True
    age_dim: int = 4


class DIN(CtrModel):
    """State: embeddings [L, D] and ages [L] of the latest L events. Score: O(B·L·D·h)."""

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: DINConfig
    ) -> None:
        super().__init__()
        self.schema, self.config = schema, config
        dim = config.item_dim + config.field_dim * (len(schema.item_fields) - 1)
        self.frame = Frame(schema, item_fields, config, config.heads * dim if config.long else 0)
        self.long = self.ages = None
        if config.long:
            self.long = TargetAttention(
                dim=dim, hidden=config.hidden, heads=config.heads, slope=config.slope,
                side=config.age_dim,
            )  # fmt: skip
            self.ages = embedding(NUM_AGES, config.age_dim, config.embedding_std)
        self.scale = schema.history_length**-0.5

    def state_spec(self) -> StateSpec:
        """The profile and, if long, the history's embeddings."""
        profile = TensorSpec("profile", (self.frame.profile.dim,))
        if self.long is None:
            return (profile,)
        length = self.schema.history_length
        return (
            profile,
            TensorSpec("events", (length, self.frame.items.dim)),
            TensorSpec("event_ages", (length,), "int32"),
        )

    def encode(self, user: User) -> UserState:
        """Embed the profile and the history."""
        state = {"profile": self.frame.profile(user.fields)}
        if self.long is not None:
            state["events"] = self.frame.items(user.history)
            state["event_ages"] = user.ages.int()
        return state

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Attend from each candidate to every event."""
        target = self.frame.items(slate.items)  # (B, C, D)
        long = None
        if self.long is not None and self.ages is not None:
            events, ages = state["events"], state["event_ages"].long()  # (B, L, D), (B, L)
            long = self.scale * self.long(
                target, events, events, side=self.ages(ages), padding=(ages == PADDING).sum(1)
            )  # (B, C, H·D)
        return self.frame.logits(state["profile"], context, target, long)
