"""Weights of the engine: a plan folded once at load, so that a request multiplies only what depends on it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch.nn.functional as F
from torch import Tensor

TINY = 1e-9
"""Least sum of a slot, as in the graph (`models/readers/slots.py`, which a service without training code lacks)."""
SMALLEST = 16
"""Least width of a matrix product in Triton."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model, without any padding.

    Attributes:
        slots: r, item slots of a user.
        heads: H, heads of the attention to slots.
        short_heads: heads of the attention to the latest items.
        recent: N, number of latest items.
        profile: width of the profile.
        items: V, rows of the catalogue.
        fields: number of candidate fields.
        context: number of context fields.
        dim: D, width of a vector.
        layers: W1 and W2, widths of the head's hidden layers.
        slope: slope of Leaky ReLU below zero.
    """

    slots: int
    heads: int
    short_heads: int
    recent: int
    profile: int
    items: int
    fields: int
    context: int
    dim: int
    layers: tuple[int, int]
    slope: float

    @property
    def pooled(self) -> int:
        """G, number of pooled vectors: one for each head of either attention."""
        return self.heads + self.short_heads


@dataclass(frozen=True)
class Weights:
    """Tensors on the engine's device, float32. Widths D, W1 and W2 are padded with zeros to powers of two.

    Attributes:
        vectors: unit-field vectors of the catalogue, [V, D].
        item_terms: first layer of the head of what depends on the item alone, [V, W1].
        item_bias: [V].
        tau: factors of a query's columns, [G, D]: long heads, then short ones.
        tau_sum: Σ_f τ_f, [G].
        profile: first layer of the profile, [P, W1].
        bias: bias of the first layer, [W1].
        context_terms: first layer of each id of each context field, all fields one below the other, [Σ sizes, W1].
        context_starts: first row of each context field there, [context], int32.
        field_terms: as `context_terms`, of the candidate fields.
        field_starts: as `context_starts`, of the candidate fields.
        pooled: first layer of the pooled vectors, [G, D, W1].
        products: first layer of their products with the candidate's vector, [G, D, W1].
        masses: first layer of asinh(mass), [G, W1].
        wide: weight of asinh(mass) in the logit, [G].
        hidden: second layer, [W1, W2].
        hidden_bias: [W2].
        out: last layer, [W2].
        out_bias: [1].
    """

    vectors: Tensor
    item_terms: Tensor
    item_bias: Tensor
    tau: Tensor
    tau_sum: Tensor
    profile: Tensor
    bias: Tensor
    context_terms: Tensor
    context_starts: Tensor
    field_terms: Tensor
    field_starts: Tensor
    pooled: Tensor
    products: Tensor
    masses: Tensor
    wide: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    out: Tensor
    out_bias: Tensor

    def padded_to(self, device: str) -> "Weights":
        """Copies on a device, each width padded to a power of two."""
        return Weights(
            **{
                field.name: _padded(getattr(self, field.name), AXES.get(field.name, ())).to(device)
                for field in fields(self)
            }
        )


AXES = {
    "vectors": (1,),
    "item_terms": (1,),
    "tau": (1,),
    "profile": (1,),
    "bias": (0,),
    "context_terms": (1,),
    "field_terms": (1,),
    "pooled": (1, 2),
    "products": (1, 2),
    "masses": (1,),
    "hidden": (0, 1),
    "hidden_bias": (0,),
    "out": (0,),
}
"""Axes that are padded: those of D, W1 and W2."""


def _padded(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    pad = [0, 0] * tensor.dim()
    for axis in axes:
        pad[2 * (tensor.dim() - 1 - axis) + 1] = width(tensor.shape[axis]) - tensor.shape[axis]
    return F.pad(tensor, pad).contiguous()


def width(size: int) -> int:
    """The next power of two, at least `SMALLEST`."""
    return max(SMALLEST, 1 << (size - 1).bit_length())
