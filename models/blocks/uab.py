"""The unified attention block of SUAN: self-attention, profile attention, dual-alignment gate, SwiGLU.

Source: SUAN (2508.15326), whose text was not at hand: the order of operations is that of the authors' released code.
Where it and the text differ, or where it has slips, see `UnifiedAttentionBlock`.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.blocks.causal_attention import merge_heads, split_heads

Norm = Literal["pre", "released"]
Projected = tuple[Float[Tensor, "B N D"], Float[Tensor, "B N D"], Float[Tensor, "B N D"]]
"""Queries, keys and values."""


class SwiGLU(nn.Module):
    """W₃(silu(W₁x + b₁) ⊙ (W₂x + b₂)) + b₃, inner width 3D."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(dim, 3 * dim), nn.Linear(dim, 3 * dim)
        self.down = nn.Linear(3 * dim, dim)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Row by row."""
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class ProfileAttention(nn.Module):
    """Each token attends to the user's profile: softmax(QKᵀ/√d_h)V W_o. No mask, no bias, no order among the fields."""

    def __init__(self, dim: int, profile_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(profile_dim, dim, bias=False) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "B N D"], profile: Float[Tensor, "B F P"]
    ) -> Float[Tensor, "B N D"]:
        """What each token reads of the profile."""
        query, key, value = (
            split_heads(part, self.heads)
            for part in (self.query(x), self.key(profile), self.value(profile))
        )
        out: Tensor = self.out(merge_heads(F.scaled_dot_product_attention(query, key, value)))
        return out


class UnifiedAttentionBlock(nn.Module):
    """One UAB. What a token attends to and over what its gate pools are the caller's: it knows which tokens there are.

    norm = "released" (the code):           norm = "pre" (the text; the default):
        u = N₁(x)                               u = N₁(x)
        v = N₂(u + SelfAttn(u))                 s = x + SelfAttn(u), v = N₂(s)
        f = Gate(v, Cross(v, U))                f = Gate(v, Cross(v, U))
        w = N₃(v + f)                           w = s + f
        y = w + SwiGLU(w)                       y = w + SwiGLU(N₃(w))

    Gate(v, c) = a₁⊙v + a₂⊙c with (a₁, a₂) = softmax over the pair (zW₁, zW₂), z = relu(pooled(v + c) W_d): per channel.

    Differs from the released code: attention to the profile is divided by √d_h, not by the root of the number of
    fields; RMSNorm's ε is inside the root, as in torch.

    Args:
        dim: D.
        profile_dim: width of a profile token.
        heads: H.
        norm: see above.
        dropout: on the output of each of the three parts.

    Raises:
        ValueError: `heads` does not divide `dim`.
    """

    def __init__(
        self, *, dim: int, profile_dim: int, heads: int, norm: Norm, dropout: float
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads: {heads} does not divide the width of an event, {dim}")
        self.heads, self.norm = heads, norm
        self.norms = nn.ModuleList(nn.RMSNorm(dim, eps=1e-6) for _ in range(3))
        self.query, self.key, self.value, self.out = (
            nn.Linear(dim, dim, bias=False) for _ in range(4)
        )
        nn.init.orthogonal_(self.query.weight)
        with (
            torch.no_grad()
        ):  # starts as likeness: an event of the same item is what a candidate reads first
            self.key.weight.copy_(self.query.weight)
        self.cross = ProfileAttention(dim, profile_dim, heads)
        narrow = max(dim // 4, 1)
        self.squeeze = nn.Linear(dim, narrow, bias=False)
        self.excite = nn.Linear(narrow, 2 * dim, bias=False)
        self.swiglu = SwiGLU(dim)
        self.dropout = nn.Dropout(dropout)

    def enter(self, x: Float[Tensor, "B N D"]) -> tuple[Float[Tensor, "B N D"], Projected]:
        """What the residual carries on from tokens that enter the block, and their queries, keys and values."""
        u = self.norms[0](x)
        projected = self.query(u), self.key(u), self.value(u)
        return (x if self.norm == "pre" else u), projected

    def align(
        self,
        carried: Float[Tensor, "B N D"],
        attended: Float[Tensor, "B N D"],
        profile: Float[Tensor, "B F P"],
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B N D"], Float[Tensor, "B N D"]]:
        """What goes on past the gate, and the gate's two inputs v and c.

        Args:
            carried: by the residual, as `enter` says.
            attended: what self-attention read for each, before W_o.
            profile: U.
        """
        past = carried + self.dropout(self.out(attended))
        v = self.norms[1](past)
        return (past if self.norm == "pre" else v), v, self.cross(v, profile)

    def finish(
        self,
        past: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N D"],
        c: Float[Tensor, "B N D"],
        pooled: Float[Tensor, "B #N D"],
    ) -> Float[Tensor, "B N D"]:
        """Gate and SwiGLU: y."""
        w = past + self.dropout(self.fuse(v, c, pooled))
        normed = self.norms[2](w)
        y: Tensor = (w if self.norm == "pre" else normed) + self.dropout(self.swiglu(normed))
        return y

    def fuse(
        self,
        v: Float[Tensor, "B N D"],
        c: Float[Tensor, "B N D"],
        pooled: Float[Tensor, "B #N D"],
    ) -> Float[Tensor, "B N D"]:
        """The gate: a₁⊙v + a₂⊙c, a₁ + a₂ = 1."""
        first, second = self.excite(self.squeeze(pooled).relu()).chunk(2, -1)
        share = torch.stack([first, second]).softmax(0)
        fused: Tensor = share[0] * v + share[1] * c
        return fused
