"""FinalMLP (Mao et al. 2023): two perceptrons over differently gated fields, joined by a multi-head bilinear form."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import UserState
from models.blocks.checks import check_divides
from models.blocks.fields.tower import FieldTower
from models.contract.schema import FeatureSchema
from models.contract.state_spec import StateSpec
from models.field.base import FieldModel, FieldModelConfig


@dataclass(frozen=True)
class FinalMLPConfig(FieldModelConfig):
    """Options of FinalMLP.

    Attributes:
        first_widths: layer widths of the first tower.
        second_widths: layer widths of the second tower.
        gate_widths: hidden widths of the perceptron that computes a tower's gate.
        fusion_heads: heads of the bilinear form; must divide the last width of both towers.
        dropout: dropout in the towers.
    """

    embedding_std: float = 1.0
    first_widths: tuple[int, ...] = (400, 400)
    second_widths: tuple[int, ...] = (400, 400, 400)
    gate_widths: tuple[int, ...] = (512,)
    fusion_heads: int = 2
    dropout: float = 0.5


class FinalMLP(FieldModel):
    """The state has the first layer of both towers over the user's gated fields.

    The gates depend on no feature. The paper lets them see chosen fields; LLaCTR's configuration chooses none, and then
    a gate is a perceptron of a learned vector.

    Raises:
        ValueError: `fusion_heads` does not divide a tower's last width.
    """

    has_linear = False

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: FinalMLPConfig
    ) -> None:
        super().__init__(schema, item_fields, config)
        self.config: FinalMLPConfig = config
        for widths in (config.first_widths, config.second_widths):
            check_divides("fusion_heads", config.fusion_heads, "a tower's last width", widths[-1])
        user_dim, online_dim = (
            count * config.dim for count in (self.frame.num_user, self.frame.num_online)
        )
        self.first, self.second = (
            _Stream(user_dim, online_dim, widths, config)
            for widths in (config.first_widths, config.second_widths)
        )
        first, second = config.first_widths[-1], config.second_widths[-1]
        self.first_out, self.second_out = nn.Linear(first, 1), nn.Linear(second, 1, bias=False)
        heads = config.fusion_heads
        self.fusion = nn.Parameter(torch.empty(heads, first // heads, second // heads))
        for matrix in self.fusion:
            nn.init.xavier_normal_(matrix.data)

    def interaction_spec(self) -> StateSpec:
        """The first layer of each tower."""
        return (*self.first.tower.spec("user_first"), *self.second.tower.spec("user_second"))

    def encode_fields(self, user: Float[Tensor, "B Ku D"]) -> tuple[Float[Tensor, "B"], UserState]:
        """The first layer of both towers; the user's own logit is 0."""
        flat = user.flatten(1)
        state = self.first.encode("user_first", flat) | self.second.encode("user_second", flat)
        return 0 * user.sum((1, 2)), state  # not `flat`: ONNX cannot reshape to an axis of size 0

    def interact(self, state: UserState, online: Float[Tensor, "B C Ko D"]) -> Float[Tensor, "B C"]:
        """The sum of both towers' linear outputs and of their bilinear form."""
        flat, heads = online.flatten(2), self.config.fusion_heads
        first = self.first(state.get("user_first"), flat)
        second = self.second(state.get("user_second"), flat)
        out: Tensor = (self.first_out(first) + self.second_out(second)).squeeze(-1)
        pair = torch.einsum("bchi,hij->bchj", first.unflatten(-1, (heads, -1)), self.fusion)
        fused: Tensor = (pair * second.unflatten(-1, (heads, -1))).sum((-2, -1))
        return out + fused


class _Stream(nn.Module):
    """A tower over gated fields. The gate is 2σ(perceptron of a learned vector), one factor per input."""

    def __init__(
        self, user_dim: int, online_dim: int, widths: tuple[int, ...], config: FinalMLPConfig
    ) -> None:
        super().__init__()
        self.split = user_dim
        self.given = nn.Parameter(torch.randn(config.dim))
        layers: list[nn.Module] = []
        for narrow, wide in pairwise((config.dim, *config.gate_widths)):
            layers += [nn.Linear(narrow, wide), nn.ReLU()]
        out = nn.Linear(
            config.gate_widths[-1] if config.gate_widths else config.dim, user_dim + online_dim
        )
        self.gate = nn.Sequential(*layers, out)
        self.tower = FieldTower(
            user_dim=user_dim, online_dim=online_dim, widths=widths, dropout=config.dropout
        )

    def encode(self, name: str, user: Float[Tensor, "B Du"]) -> UserState:
        """The tower's first layer over the user's fields."""
        return self.tower.encode(name, user * self._factors()[: self.split])

    def forward(
        self, encoded: Float[Tensor, "B W"] | None, online: Float[Tensor, "B C Do"]
    ) -> Float[Tensor, "B C Wl"]:
        """The tower's last layer."""
        out: Tensor = self.tower(encoded, online * self._factors()[self.split :])
        return out

    def _factors(self) -> Float[Tensor, "Dg"]:
        out: Tensor = 2 * self.gate(self.given).sigmoid()
        return out
