"""FmFM (Sun et al. 2021): FM with a matrix for each pair of fields."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import UserState
from models.blocks.fields.pairs import matrix_pairs, pair_places, transform_to, upper
from models.contract.schema import FeatureSchema
from models.contract.state_spec import StateSpec, TensorSpec
from models.field.base import FieldModel, FieldModelConfig


@dataclass(frozen=True)
class FmFMConfig(FieldModelConfig):
    """FmFM has no options of its own."""


class FmFM(FieldModel):
    """The state has a vector for each online field l: Σ_k M_klᵀ e_k over the user's fields k."""

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: FmFMConfig
    ) -> None:
        super().__init__(schema, item_fields, config)
        size = self.frame.num_fields
        pairs = torch.empty(size * (size - 1) // 2, config.dim, config.dim)
        for matrix in pairs:
            nn.init.xavier_normal_(matrix)
        self.matrices = nn.Parameter(pairs)
        self.register_buffer("places", pair_places(size), persistent=False)

    def interaction_spec(self) -> StateSpec:
        """A vector for each of the Ko online fields."""
        return (TensorSpec("user_pairs", (self.frame.num_online, self.frame.dim)),)

    def encode_fields(self, user: Float[Tensor, "B Ku D"]) -> tuple[Float[Tensor, "B"], UserState]:
        """Pairs of the user's fields, and a vector for each online field."""
        matrices, split = self._matrices(), self.frame.num_user
        state = {"user_pairs": transform_to(user, matrices[:split, split:])}
        return matrix_pairs(user, matrices[:split, :split]), state

    def interact(self, state: UserState, online: Float[Tensor, "B C Ko D"]) -> Float[Tensor, "B C"]:
        """Pairs of online fields with the user's, and among themselves."""
        split = self.frame.num_user
        out: Tensor = (online * state["user_pairs"][:, None]).sum((-2, -1))
        return out + matrix_pairs(online, self._matrices()[split:, split:])

    def _matrices(self) -> Float[Tensor, "K K D D"]:
        return upper(self.matrices, self.get_buffer("places"))
