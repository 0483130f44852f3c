"""The cut every model is made of: `encode` offline, `score` online, `forward` = score after encode."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from models.batch import Context, Slate, User
from models.contract.record import StateSpec

UserState = dict[str, Tensor]
"""Tensors of a user's state, batch first, as the model's `state_spec` says."""


@dataclass(frozen=True)
class TrainOutput:
    """What one training step fits.

    Attributes:
        logits: fitted to the labels.
        penalty: added to the loss.
        auxiliary: further logits that are fitted to the same labels with the same weight (SIM's search unit).
    """

    logits: Float[Tensor, "B C"]
    penalty: Float[Tensor, ""] | None = None
    auxiliary: tuple[Float[Tensor, "B C"], ...] = ()


def slower_groups(
    weights: Iterable[nn.Parameter], slow: Iterable[nn.Parameter], lr: float, share: float
) -> list[dict[str, Any]]:
    """Optimiser groups of weights, `slow` of which learn at `share` times the rate."""
    slowed = list(slow)
    ids = {id(weight) for weight in slowed}
    fast = [weight for weight in weights if id(weight) not in ids]
    groups = [{"params": fast, "lr": lr}]
    return [*groups, {"params": slowed, "lr": lr * share}] if slowed else groups


class CtrModel(nn.Module, ABC):
    """A click model cut at the cache."""

    reads_history = True
    """False if neither `encode` nor `score` looks at what the user did before: it knows fields only."""

    @abstractmethod
    def state_spec(self) -> StateSpec:
        """Names and shapes (without the batch axis) of what `encode` returns, in the record's order."""

    @abstractmethod
    def encode(self, user: User) -> UserState:
        """Everything about a user that is known offline."""

    @abstractmethod
    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Logits of each candidate; no candidate sees another."""

    def forward(self, user: User, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """What is served, in one call."""
        return self.score(self.encode(user), context, slate)

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """What training fits.

        Replaced by a model that trains another graph than it serves (`trains_what_it_serves`), or has a loss more.
        """
        return TrainOutput(self.forward(user, context, slate))

    @property
    def trains_what_it_serves(self) -> bool:
        """False if `train_forward` is another function than `forward`: then evaluation reports the gap."""
        return True

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Optimiser groups; a model may give some of its weights another rate."""
        return [{"params": list(self.parameters()), "lr": lr}]
