"""A perceptron over all fields, cut at the cache: the part of its first layer over the user's fields is cached."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from models.base import UserState
from models.contract.state_spec import StateSpec, TensorSpec


class FieldTower(nn.Module):
    """Linear, ReLU, dropout per layer. The first layer is the sum of one over the user's fields and one over the rest.

    Args:
        user_dim: width of the user's fields, concatenated.
        online_dim: width of the other fields, concatenated.
        widths: layer widths.
        dropout: dropout after each layer.
    """

    def __init__(
        self, *, user_dim: int, online_dim: int, widths: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.user = nn.Linear(user_dim, widths[0], bias=False) if user_dim else None
        self.online = nn.Linear(online_dim, widths[0])
        self.hidden = nn.ModuleList(nn.Linear(narrow, wide) for narrow, wide in pairwise(widths))
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(dropout)

    def spec(self, name: str) -> StateSpec:
        """Spec of what `encode` returns; empty if there are no user fields."""
        return () if self.user is None else (TensorSpec(name, (self.user.out_features,)),)

    def encode(self, name: str, user: Float[Tensor, "B Du"]) -> UserState:
        """The user's part of the first layer, as a state tensor called `name`."""
        return {} if self.user is None else {name: self.user(user)}

    def forward(
        self, encoded: Float[Tensor, "B W"] | None, online: Float[Tensor, "B C Do"]
    ) -> Float[Tensor, "B C Wl"]:
        """Output of the last layer, for each candidate.

        Args:
            encoded: the tensor of `encode`; None if there are no user fields.
            online: the other fields, concatenated.
        """
        x = self.online(online)
        if encoded is not None:
            x = x + encoded[:, None]
        x = self.dropout(self.activation(x))
        for layer in self.hidden:
            x = self.dropout(self.activation(layer(x)))
        out: Tensor = x
        return out
