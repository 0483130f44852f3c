"""DeepFM (Guo et al. 2017): the sum of FM and of a perceptron over the same embeddings."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import UserState
from models.blocks.fields.tower import FieldTower
from models.contract.schema import FeatureSchema
from models.contract.state_spec import StateSpec
from models.field.fm import FM, FMConfig


@dataclass(frozen=True)
class DeepFMConfig(FMConfig):
    """Options of DeepFM.

    Attributes:
        widths: layer widths of the perceptron; LLaCTR's [300, 300, 128].
        dropout: dropout in the perceptron.
    """

    widths: tuple[int, ...] = (300, 300, 128)
    dropout: float = 0.0


class DeepFM(FM):
    """The state is that of FM and the perceptron's first layer over the user's fields."""

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: DeepFMConfig
    ) -> None:
        super().__init__(schema, item_fields, config)
        self.tower = FieldTower(
            user_dim=self.frame.num_user * config.dim,
            online_dim=self.frame.num_online * config.dim,
            widths=config.widths,
            dropout=config.dropout,
        )
        self.out = nn.Linear(config.widths[-1], 1, bias=False)

    def interaction_spec(self) -> StateSpec:
        """The tensors of FM and of the perceptron."""
        return (*super().interaction_spec(), *self.tower.spec("user_hidden"))

    def encode_fields(self, user: Float[Tensor, "B Ku D"]) -> tuple[Float[Tensor, "B"], UserState]:
        """FM's logit, and the tensors of FM and of the perceptron."""
        logit, state = super().encode_fields(user)
        return logit, state | self.tower.encode("user_hidden", user.flatten(1))

    def interact(self, state: UserState, online: Float[Tensor, "B C Ko D"]) -> Float[Tensor, "B C"]:
        """The sum of FM's logits and the perceptron's."""
        deep: Tensor = self.out(self.tower(state.get("user_hidden"), online.flatten(2)))
        return super().interact(state, online) + deep.squeeze(-1)
