"""The unified attention block of SUAN: self-attention, profile attention, dual-alignment gate, SwiGLU.

Source: SUAN (arXiv:2508.15326). Its text was not at hand, so the order of operations is that of the authors' released
code. `UnifiedAttentionBlock` lists where the code differs from the text, and our corrections.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.blocks.attention.causal_attention import merge_heads, split_heads
from models.blocks.checks import check_divides

Norm = Literal["pre", "released"]
Projected = tuple[Float[Tensor, "B N D"], Float[Tensor, "B N D"], Float[Tensor, "B N D"]]
"""Queries, keys and values of the same tokens."""


class SwiGLU(nn.Module):
    """W₃(silu(W₁x + b₁) ⊙ (W₂x + b₂)) + b₃, inner width 3D."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(dim, 3 * dim), nn.Linear(dim, 3 * dim)
        self.down = nn.Linear(3 * dim, dim)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Apply it to each row."""
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class ProfileAttention(nn.Module):
    """Each token attends to the user's profile fields: softmax(QKᵀ/√d_h)V W_o, without mask, bias or positions."""

    def __init__(self, dim: int, profile_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(profile_dim, dim, bias=False) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "B N D"], profile: Float[Tensor, "B F P"]
    ) -> Float[Tensor, "B N D"]:
        """The attended profile of each token."""
        query, key, value = (
            split_heads(part, self.heads)
            for part in (self.query(x), self.key(profile), self.value(profile))
        )
        out: Tensor = self.out(merge_heads(F.scaled_dot_product_attention(query, key, value)))
        return out


class UnifiedAttentionBlock(nn.Module):
    """One UAB. The caller computes the self-attention and the pooling of the gate, since it knows the tokens.

    norm = "released" (the code):           norm = "pre" (the text; the default):
        u = N₁(x)                               u = N₁(x)
        v = N₂(u + SelfAttn(u))                 s = x + SelfAttn(u), v = N₂(s)
        f = Gate(v, Cross(v, U))                f = Gate(v, Cross(v, U))
        w = N₃(v + f)                           w = s + f
        y = w + SwiGLU(w)                       y = w + SwiGLU(N₃(w))

    Gate(v, c) = a₁⊙v + a₂⊙c with (a₁, a₂) = softmax of the pair (zW₁, zW₂) per channel, z = relu(pooled(v + c) W_d).

    Differs from the released code: the logits of profile attention are divided by √d_h, not by the root of the number
    of fields; RMSNorm's ε is inside the root, as in torch.

    Args:
        dim: D, width of a token.
        profile_dim: width of a profile token.
        heads: H.
        norm: "pre" or "released", see above.
        dropout: dropout on the output of each of the three parts.

    Raises:
        ValueError: `heads` does not divide `dim`.
    """

    def __init__(
        self, *, dim: int, profile_dim: int, heads: int, norm: Norm, dropout: float
    ) -> None:
        super().__init__()
        check_divides("heads", heads, "an event's width", dim)
        self.heads, self.norm = heads, norm
        self.norms = nn.ModuleList(nn.RMSNorm(dim, eps=1e-6) for _ in range(3))
        self.query, self.key, self.value, self.out = (
            nn.Linear(dim, dim, bias=False) for _ in range(4)
        )
        nn.init.orthogonal_(self.query.weight)
        # Equal weights: from the start, a candidate attends most to events of its own item.
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)
        self.cross = ProfileAttention(dim, profile_dim, heads)
        narrow = max(dim // 4, 1)
        self.squeeze = nn.Linear(dim, narrow, bias=False)
        self.excite = nn.Linear(narrow, 2 * dim, bias=False)
        self.swiglu = SwiGLU(dim)
        self.dropout = nn.Dropout(dropout)

    def enter(self, x: Float[Tensor, "B N D"]) -> tuple[Float[Tensor, "B N D"], Projected]:
        """The residual of tokens that enter the block, and their queries, keys and values."""
        u = self.norms[0](x)
        projected = self.query(u), self.key(u), self.value(u)
        return (x if self.norm == "pre" else u), projected

    def align(
        self,
        residual: Float[Tensor, "B N D"],
        attended: Float[Tensor, "B N D"],
        profile: Float[Tensor, "B F P"],
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B N D"], Float[Tensor, "B N D"]]:
        """The residual past the gate, and the gate's two inputs v and c.

        Args:
            residual: as `enter` returns it.
            attended: output of self-attention, before W_o.
            profile: U.
        """
        s = residual + self.dropout(self.out(attended))
        v = self.norms[1](s)
        return (s if self.norm == "pre" else v), v, self.cross(v, profile)

    def finish(
        self,
        residual: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N D"],
        c: Float[Tensor, "B N D"],
        pooled: Float[Tensor, "B #N D"],
    ) -> Float[Tensor, "B N D"]:
        """Output y of the block: gate and SwiGLU.

        Args:
            residual: as `align` returns it.
            v: as `align` returns it.
            c: as `align` returns it.
            pooled: v + c, pooled over the tokens that the gate sees.
        """
        w = residual + self.dropout(self.fuse(v, c, pooled))
        normed = self.norms[2](w)
        y: Tensor = (w if self.norm == "pre" else normed) + self.dropout(self.swiglu(normed))
        return y

    def fuse(
        self,
        v: Float[Tensor, "B N D"],
        c: Float[Tensor, "B N D"],
        pooled: Float[Tensor, "B #N D"],
    ) -> Float[Tensor, "B N D"]:
        """Gate(v, c) = a₁⊙v + a₂⊙c, with a₁ + a₂ = 1 in each channel."""
        first, second = self.excite(self.squeeze(pooled).relu()).chunk(2, -1)
        a = torch.stack([first, second]).softmax(0)
        fused: Tensor = a[0] * v + a[1] * c
        return fused
