"""WuKong (Zhang et al. 2024): a stack of layers, each a factorization machine and a linear compression of rows."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import UserState
from models.blocks.checks import check_at_least
from models.contract.schema import FeatureSchema
from models.contract.state_spec import StateSpec, TensorSpec
from models.field.base import FieldModel, FieldModelConfig


@dataclass(frozen=True)
class WuKongConfig(FieldModelConfig):
    """Options of WuKong.

    Attributes:
        layers: number of layers; at least 1.
        compressed: output rows of each of a layer's two blocks.
        projected: k, columns that the factorization machine's XXᵀ is projected to.
        fmb_widths: hidden widths of the factorization machine's perceptron.
        head: hidden widths of the perceptron over the last layer.
        dropout: dropout in the perceptrons.
    """

    embedding_std: float = 1.0
    layers: int = 8
    compressed: int = 24
    projected: int = 8
    fmb_widths: tuple[int, ...] = (200, 200)
    head: tuple[int, ...] = (32, 32)
    dropout: float = 0.5


class WuKong(FieldModel):
    """The state is the user's embeddings: from the first layer on, every row is mixed with the candidate's.

    Raises:
        ValueError: `layers` is below 1.
    """

    has_linear = False

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: WuKongConfig
    ) -> None:
        super().__init__(schema, item_fields, config)
        check_at_least(1, layers=config.layers)
        sizes = [self.frame.num_fields] + [2 * config.compressed] * config.layers
        self.stack = nn.Sequential(*(_Layer(rows, config) for rows in sizes[:-1]))
        self.head = _perceptron((sizes[-1] * config.dim, *config.head), 1, config.dropout)

    def interaction_spec(self) -> StateSpec:
        """An embedding for each of the Ku user fields."""
        size = self.frame.num_user
        return (TensorSpec("user_fields_embedded", (size, self.frame.dim)),) if size else ()

    def encode_fields(self, user: Float[Tensor, "B Ku D"]) -> tuple[Float[Tensor, "B"], UserState]:
        """The user's embeddings; the user's own logit is 0."""
        return 0 * user.sum((1, 2)), {"user_fields_embedded": user} if self.frame.num_user else {}

    def interact(self, state: UserState, online: Float[Tensor, "B C Ko D"]) -> Float[Tensor, "B C"]:
        """The stack over all fields of each candidate."""
        x = online
        if self.frame.num_user:
            # Added to zeros instead of expanded: the exporter would write the slate's size as a constant.
            user = state["user_fields_embedded"][:, None] + torch.zeros_like(online[:, :, :1])
            x = torch.cat([user, online], 2)
        B, C = x.shape[:2]
        logits: Tensor = self.head(self.stack(x.flatten(0, 1)).flatten(1))
        return logits.view(B, C)


class _Layer(nn.Module):
    """X' = norm([FMB(X); LCB(X)] + R X). Both blocks give equally many rows; R maps the residual to their number."""

    def __init__(self, rows: int, config: WuKongConfig) -> None:
        super().__init__()
        self.rows, self.dim = config.compressed, config.dim
        self.project = nn.Parameter(torch.randn(rows, config.projected) * rows**-0.5)
        self.fm_norm = nn.LayerNorm(rows * config.projected)
        self.fm = _perceptron(
            (rows * config.projected, *config.fmb_widths), self.rows * config.dim, config.dropout
        )
        self.compress = nn.Linear(rows, self.rows, bias=False)
        self.residual = nn.Linear(rows, 2 * self.rows, bias=False)
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x: Float[Tensor, "N R D"]) -> Float[Tensor, "N S D"]:
        """The next layer's rows. XXᵀY is computed as X(XᵀY), in O(R·D·k)."""
        crossed = x @ (x.mT @ self.project)  # (N, R, k)
        fm = self.fm(self.fm_norm(crossed.flatten(1))).view(-1, self.rows, self.dim)
        linear = self.compress(x.mT).mT
        out: Tensor = self.norm(torch.cat([fm, linear], 1) + self.residual(x.mT).mT)
        return out


def _perceptron(widths: tuple[int, ...], out: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        layers += [nn.Linear(narrow, wide), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], out))
