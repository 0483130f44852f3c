"""FM (Rendle 2010): the sum over pairs of fields of the inner product of their embeddings, in O(K·D)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from models.base import UserState
from models.blocks.fields.pairs import sum_pairs
from models.contract.state_spec import StateSpec, TensorSpec
from models.field.base import FieldModel, FieldModelConfig


@dataclass(frozen=True)
class FMConfig(FieldModelConfig):
    """FM has no options of its own."""


class FM(FieldModel):
    """The state is the sum of the user's embeddings: Σ_{k<l} <e_k, e_l> needs no more of them online."""

    def interaction_spec(self) -> StateSpec:
        """The sum: D numbers."""
        return (TensorSpec("user_sum", (self.frame.dim,)),)

    def encode_fields(self, user: Float[Tensor, "B Ku D"]) -> tuple[Float[Tensor, "B"], UserState]:
        """Pairs of the user's fields, and the sum of their embeddings."""
        return sum_pairs(user), {"user_sum": user.sum(1)}

    def interact(self, state: UserState, online: Float[Tensor, "B C Ko D"]) -> Float[Tensor, "B C"]:
        """Pairs of online fields with the user's, and among themselves."""
        out: Tensor = (online.sum(2) * state["user_sum"][:, None]).sum(-1) + sum_pairs(online)
        return out
