"""Signatures by random hyperplanes (SimHash; Charikar 2002), by which ETA and SDIM search a history.

Bit j of a vector x is 1[x·h_j > 0], for random h_j that are not trained: two vectors at angle θ differ in a bit with
probability θ/π. Products are in double precision, so that torch and ONNX Runtime give the same signature of an item
unless a product is below 1e-15.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class SimHash(nn.Module):
    """m sign bits of a vector.

    Args:
        dim: D.
        num_bits: m.
        seed: seed of the hyperplanes, whose components are normal. They are saved with the weights.
    """

    planes: Tensor

    def __init__(self, *, dim: int, num_bits: int, seed: int = 1) -> None:
        super().__init__()
        planes = torch.randn(dim, num_bits, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("planes", planes)

    def forward(self, x: Float[Tensor, "B K D"]) -> Bool[Tensor, "B K m"]:
        """The signatures. They have no gradient."""
        return (x.detach().double() @ self.planes.double()) > 0


def bucket_ids(bits: Bool[Tensor, "B K m"], tau: int) -> Int[Tensor, "B K G"]:
    """G = m / τ signatures: every τ consecutive bits as a number in [0, 2^τ)."""
    powers = 2 ** torch.arange(tau, device=bits.device)
    return (bits.reshape(*bits.shape[:-1], -1, tau) * powers).sum(-1)


def similarity(left: Bool[Tensor, "B C m"], right: Bool[Tensor, "B L m"]) -> Float[Tensor, "B C L"]:
    """Similarity m − 2·Hamming distance, as one product of ±1 vectors."""
    return (2.0 * left.float() - 1) @ (2.0 * right.float() - 1).mT
