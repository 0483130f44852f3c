"""Signatures of random hyperplanes (SimHash; Charikar 2002): what ETA and SDIM search a history by.

Bit j of a vector x is 1[x·h_j > 0] for fixed random h_j, never trained: two vectors at angle θ differ in a bit with
probability θ/π. Signs are taken in double precision: the signature of a row of the item table is then the same wherever
it is computed, but for a product below 1e-15.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

WORD_BITS = 16
"""Bits to an int32 word of a packed signature: the sign bit stays out of it."""


class SimHash(nn.Module):
    """m sign bits of a vector.

    Args:
        dim: D.
        num_bits: m.
        seed: of the hyperplanes, which are normal. They are part of the weights.
    """

    planes: Tensor

    def __init__(self, *, dim: int, num_bits: int, seed: int = 1) -> None:
        super().__init__()
        planes = torch.randn(dim, num_bits, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("planes", planes)

    def forward(self, x: Float[Tensor, "B K D"]) -> Bool[Tensor, "B K m"]:
        """Bits. No gradient: it is a choice."""
        return (x.detach().double() @ self.planes.double()) > 0


def bucket_ids(bits: Bool[Tensor, "B K m"], tau: int) -> Int[Tensor, "B K G"]:
    """Each τ consecutive bits as one number in [0, 2^τ): G = m / τ signatures."""
    powers = 2 ** torch.arange(tau, device=bits.device)
    return (bits.reshape(*bits.shape[:-1], -1, tau) * powers).sum(-1)


def pack(bits: Bool[Tensor, "B K m"]) -> Int[Tensor, "B K W"]:
    """int32 words of `WORD_BITS` bits, the last one filled up with zeros."""
    missing = -bits.shape[-1] % WORD_BITS
    full = nn.functional.pad(bits.int(), (0, missing))
    return bucket_ids(full.bool(), WORD_BITS).int()


def unpack(words: Int[Tensor, "B K W"], num_bits: int) -> Bool[Tensor, "B K m"]:
    """Inverse of `pack`."""
    powers = (2 ** torch.arange(WORD_BITS, device=words.device)).int()
    bits = torch.bitwise_and(words[..., None], powers) > 0
    return bits.flatten(-2)[..., :num_bits]


def similarity(left: Bool[Tensor, "B C m"], right: Bool[Tensor, "B L m"]) -> Float[Tensor, "B C L"]:
    """M − 2·Hamming distance: one product of ±1 vectors."""
    return (2.0 * left.float() - 1) @ (2.0 * right.float() - 1).mT
