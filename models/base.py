"""The cut of every model: `encode` runs offline, `score` online, and `forward` is `score` after `encode`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from models.batch import Context, Slate, User
from models.contract.state_spec import StateSpec

UserState = dict[str, Tensor]
"""Name -> tensor of a user's state. Axis 0 is the batch; `state_spec` names the others."""


@dataclass(frozen=True)
class TrainOutput:
    """What one training step optimises.

    Attributes:
        logits: logits of the candidates, fitted to the labels.
        penalty: a term that is added to the loss; None adds nothing.
        auxiliary: more logits, fitted to the same labels with the same weight (for example SIM's search unit).
    """

    logits: Float[Tensor, "B C"]
    penalty: Float[Tensor, ""] | None = None
    auxiliary: tuple[Float[Tensor, "B C"], ...] = ()


def slower_groups(
    weights: Iterable[nn.Parameter], lr: float, *slow: tuple[Sequence[nn.Parameter], float]
) -> list[dict[str, Any]]:
    """Optimiser groups in which some weights learn at a share of the rate of the other `weights`.

    Args:
        weights: all of them.
        lr: the rate.
        slow: weights, and their share of the rate.
    """
    slow = tuple((chosen, share) for chosen, share in slow if chosen and share != 1)
    slow_ids = {id(weight) for chosen, _ in slow for weight in chosen}
    groups = [{"params": [weight for weight in weights if id(weight) not in slow_ids], "lr": lr}]
    return groups + [{"params": list(own), "lr": lr * share} for own, share in slow]


class CtrModel(nn.Module, ABC):
    """A click model that is cut at the cache."""

    reads_history = True
    """False for a model that reads feature fields only, not what the user did before."""

    @abstractmethod
    def state_spec(self) -> StateSpec:
        """Names and shapes (without the batch axis) of the tensors that `encode` returns, in the record's order."""

    @abstractmethod
    def encode(self, user: User) -> UserState:
        """Compute the part of a user that is known offline: the state that is cached."""

    @abstractmethod
    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Logits of the candidates. The logit of a candidate does not depend on the other candidates."""

    def forward(self, user: User, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Encode and score in one call: the function that is served."""
        return self.score(self.encode(user), context, slate)

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """The outputs that training optimises: by default the logits of `forward`.

        A model overrides this if it trains another graph than it serves (see `trains_what_it_serves`) or adds a loss.
        """
        return TrainOutput(self.forward(user, context, slate))

    @property
    def trains_what_it_serves(self) -> bool:
        """False if `train_forward` computes other logits than `forward`; evaluation then reports the gap."""
        return True

    @property
    def is_recordable(self) -> bool:
        """Whether a training step can be recorded on a GPU and replayed.

        It can if it launches the same kernels for every batch of one shape and never waits for the host.
        """
        return False

    def set_base_log_odds(self, log_odds: float) -> None:
        """Start the logit at a base rate. For a model that is not yet trained."""

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Optimiser groups. A model overrides this to give some of its weights another learning rate."""
        return [{"params": list(self.parameters()), "lr": lr}]
