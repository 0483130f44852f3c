"""Attention whose weights are likeness from the start: a Gaussian kernel on unit-length fields.

    w_h(t, l) = exp(Σ_f τ_hf (cos_f(t, l) − 1) + shift_h(l))
    mass_h = Σ_l w_h,   pooled_h = Σ_l w_h e_l / (1 + mass_h)

cos_f is the cosine of field f, τ_hf ≥ 0 is learned. Head h starts sharp in field h, so that its mass starts as a soft
count of that field's value; heads beyond the fields start with a mild likeness in all fields.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.blocks.reading import Read

SHARP, DULL, MILD = 15.0, 0.3, 5.0
"""τ at the start: of a head's own field, of its other fields, and of heads beyond the fields."""
LARGEST = 60.0
"""τ at most."""
ONES = 4
"""Columns of ones behind the values, whose sums are the masses: four keep rows aligned to 16 bytes."""


class FieldKernel(nn.Module):
    """τ, and what it makes of queries and keys.

    Args:
        widths: width of each field's part of a vector.
        heads: H.
    """

    spread: Tensor

    def __init__(self, widths: Sequence[int], heads: int) -> None:
        super().__init__()
        self.heads, fields = heads, len(widths)
        tau = torch.full((heads, fields), DULL)
        own = min(heads, fields)
        tau[range(own), range(own)] = SHARP
        tau[own:] = MILD
        self.raw = nn.Parameter(torch.log(torch.expm1(tau)))  # softplus⁻¹
        field = torch.repeat_interleave(torch.arange(fields), torch.tensor(widths))
        spread = (field == torch.arange(fields)[:, None]).float()
        self.register_buffer("spread", spread, persistent=False)  # (F, D)

    def tau(self) -> Float[Tensor, "H F"]:
        """τ_hf."""
        return F.softplus(self.raw).clamp(max=LARGEST)

    def query(self, target: Float[Tensor, "B C D"]) -> Float[Tensor, "B HC Dq"]:
        """[τ_h ⊙ e_t ⊕ one-hot of h], heads before candidates."""
        scaled = target[:, None] * (self.tau() @ self.spread)[:, None]  # (B, H, C, D)
        one_hot = torch.eye(self.heads, dtype=target.dtype, device=target.device)[:, None]
        # Added to zeros instead of expanded: the exporter would write the slate's size as a constant.
        head = one_hot + torch.zeros_like(scaled[..., :1])
        return torch.cat([scaled, head], -1).flatten(1, 2)

    def key(
        self, vectors: Float[Tensor, "B K D"], shift: Float[Tensor, "B K H"]
    ) -> Float[Tensor, "B K Dq"]:
        """[e_l ⊕ shift_h − Σ_f τ_hf], whose product with a query is the exponent."""
        return torch.cat([vectors, shift - self.tau().sum(1)], -1)

    def exponent(
        self,
        target: Float[Tensor, "B C D"],
        vectors: Float[Tensor, "B K D"],
        shift: Float[Tensor, "B K H"],
    ) -> Float[Tensor, "B HC K"]:
        """Log of the weights, heads before candidates."""
        return self.query(target) @ self.key(vectors, shift).mT

    def forward(
        self,
        target: Float[Tensor, "B C D"],
        vectors: Float[Tensor, "B K D"],
        shift: Float[Tensor, "B K H"],
    ) -> Read:
        """Attend from each candidate to all keys.

        Args:
            target: e_t.
            vectors: of events or slots; keys and values.
            shift: added to the exponent of each key in each head.
        """
        weight = self.exponent(target, vectors, shift).exp()
        return pool(weight, vectors, self.heads)


def pool(weight: Float[Tensor, "B HC K"], vectors: Float[Tensor, "B K D"], heads: int) -> Read:
    """Masses Σ_l w and pooled vectors Σ_l w e_l / (1 + Σ_l w) of each head."""
    B, _, D = vectors.shape
    summed = weight @ F.pad(vectors, (0, ONES), value=1.0)
    summed = summed.view(B, heads, -1, D + ONES).transpose(1, 2)  # (B, C, H, D + ONES)
    return from_sums(summed)


def from_sums(summed: Float[Tensor, "B C H Do"]) -> Read:
    """Masses and pooled vectors of the sums of values with `ONES` columns of ones behind them."""
    mass = summed[..., -1]
    return Read(mass, summed[..., :-ONES] / (1 + mass)[..., None])
