"""Mean pooling: the mean of the whole history, the same for every candidate. A baseline without attention.

The "avg-pooling long" baseline of SIM (arXiv:2006.05639) and ETA (arXiv:2108.04468). State: D + 1 numbers. No cost per
candidate. Differs from them: the number of events is an input too.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.base import CtrModel, UserState
from models.batch import Context, Slate, User
from models.blocks.frame import Frame, FrameConfig
from models.contract.record import StateSpec, TensorSpec
from models.contract.schema import PADDING, FeatureSchema


@dataclass(frozen=True)
class MeanPoolConfig(FrameConfig):
    """Mean pooling has no options of its own."""


class MeanPool(CtrModel):
    """The long history of each candidate is [mean_l e_l ⊕ log(1 + n)], with n the number of events."""

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: MeanPoolConfig
    ) -> None:
        super().__init__()
        dim = config.item_width(schema)
        self.frame = Frame(schema, item_fields, config, dim + 1)

    def state_spec(self) -> StateSpec:
        """The profile, the mean and log(1 + n)."""
        return (
            TensorSpec("profile", (self.frame.profile.dim,)),
            TensorSpec("history_mean", (self.frame.items.dim,)),
            TensorSpec("log_count", (1,)),
        )

    def encode(self, user: User) -> UserState:
        """Average the events."""
        events = self.frame.items(user.history)  # (B, L, D)
        count = (user.history != PADDING).sum(1, keepdim=True).to(events.dtype)  # (B, 1)
        return {
            "profile": self.frame.profile(user.fields),
            "history_mean": events.sum(1) / count.clamp(min=1),
            "log_count": torch.log1p(count),
        }

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Give every candidate the same summary."""
        target = self.frame.items(slate.items)  # (B, C, D)
        summary = torch.cat([state["history_mean"], state["log_count"]], -1)  # (B, D + 1)
        long = summary[:, None].expand(-1, target.shape[1], -1)
        return self.frame.logits(state["profile"], context, target, long)
