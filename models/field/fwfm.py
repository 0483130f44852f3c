"""FwFM (Pan et al. 2018): FM with a weight for each pair of fields, and a first-order vector for each field."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import UserState
from models.blocks.fields.pairs import pair_places, symmetric, weighted_pairs
from models.contract.schema import FeatureSchema
from models.contract.state_spec import StateSpec, TensorSpec
from models.field.base import FieldModel, FieldModelConfig


@dataclass(frozen=True)
class FwFMConfig(FieldModelConfig):
    """FwFM has no options of its own."""


class FwFM(FieldModel):
    """The state has a vector for each online field l: Σ_k r_kl e_k over the user's fields k."""

    has_linear = False

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: FwFMConfig
    ) -> None:
        super().__init__(schema, item_fields, config)
        size = self.frame.num_fields
        self.pair_weights = nn.Parameter(torch.ones(size * (size - 1) // 2))
        self.first_order = nn.Parameter(torch.zeros(size, config.dim))
        self.register_buffer("places", pair_places(size), persistent=False)

    def interaction_spec(self) -> StateSpec:
        """A vector for each of the Ko online fields."""
        return (TensorSpec("user_pairs", (self.frame.num_online, self.frame.dim)),)

    def encode_fields(self, user: Float[Tensor, "B Ku D"]) -> tuple[Float[Tensor, "B"], UserState]:
        """First order and pairs of the user's fields, and a vector for each online field."""
        weight, split = self._weights(), self.frame.num_user
        logit = weighted_pairs(user, weight[:split, :split])
        logit = logit + (user * self.first_order[:split]).sum((-2, -1))
        return logit, {"user_pairs": weight[split:, :split] @ user}

    def interact(self, state: UserState, online: Float[Tensor, "B C Ko D"]) -> Float[Tensor, "B C"]:
        """First order of online fields, their pairs with the user's, and among themselves."""
        weight, split = self._weights(), self.frame.num_user
        factor = state["user_pairs"][:, None] + self.first_order[split:]
        out: Tensor = (online * factor).sum((-2, -1))
        return out + weighted_pairs(online, weight[split:, split:])

    def _weights(self) -> Float[Tensor, "K K"]:
        return symmetric(self.pair_weights, self.get_buffer("places"))
