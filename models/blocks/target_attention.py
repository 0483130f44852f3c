"""Target attention with a non-linear score, over events (DIN) or over slots (LREA)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.checks import check_divides

Form = Literal["concat", "split"]
CACHE_FLOATS = 1 << 18
"""Activations (floats, 1 MB) of the users computed at a time: more do not fit the CPU cache, fewer are overhead."""


class TargetAttention(nn.Module):
    """o = Σ_k v_k · W_oᵀ φ(W_1ᵀ e_t + W_2ᵀ c_k + W_3ᵀ (e_t ⊙ c_k) + b), unnormalised, one weight per head.

    LREA (arXiv:2503.02542v4) Eq. 5 and 9: the three blocks of W_in over [e_t ⊕ c_k ⊕ e_t ⊙ c_k]. Eq. 5 equates this
    `concat` form with the sum of φ of each part, the `split` form (where b goes with W_1). For a non-linear φ they are
    two models; both are implemented. DIN (arXiv:1706.06978) has a fourth term e_t − c_k, which the first two blocks
    already span.

    In the exported graph the user's part is folded once: z = e_t (W_1 + diag(c_k) W_3) + (W_2ᵀ c_k + b) is one matrix
    product of all candidates [C, D] with [D, K·h], instead of K·C concatenations. The result is the same.

    In torch, candidates are few and keys are many, so the candidates' side is folded: z = c_k (W_2 + diag(e_t) W_3)
    + (W_1ᵀ e_t + b). A few users are computed at a time, so that activations stay in the CPU cache: 5 times faster than
    one product over all, for 48 users × 16 candidates × 512 events.

    Padding needs no mask as long as its value v_k is zero.

    Args:
        dim: D, width of targets and keys.
        hidden: h, width of φ.
        heads: H. Each head has h/H of the units (W_o is block-diagonal); the heads' outputs are concatenated.
        slope: slope of φ = Leaky ReLU below zero.
        form: "concat" or "split", see above.
        side: S, number of further features of each key (its age, its count), which add W_sᵀ s_k inside φ; 0 for none.

    Raises:
        ValueError: `heads` does not divide `hidden`.

    Initialisation: W_1, W_2, W_s uniform Xavier over [e_t ⊕ c_k ⊕ e_t ⊙ c_k]; W_3 the same times 5 = 1/σ, since a
    product of two components with σ = 0.2 is smaller by that factor; W_o normal with σ = (h/H)^-½; b zero.
    """

    def __init__(
        self,
        *,
        dim: int,
        hidden: int,
        heads: int,
        slope: float,
        form: Form = "concat",
        side: int = 0,
    ) -> None:
        super().__init__()
        check_divides("heads", heads, "hidden", hidden)
        self.form, self.slope, self.hidden, self.heads = form, slope, hidden, heads
        bound = math.sqrt(6 / (3 * dim + hidden))
        self.w_1 = nn.Parameter(torch.empty(dim, hidden).uniform_(-bound, bound))
        self.w_2 = nn.Parameter(torch.empty(dim, hidden).uniform_(-bound, bound))
        self.w_3 = nn.Parameter(torch.empty(dim, hidden).uniform_(-5 * bound, 5 * bound))
        self.w_s = nn.Parameter(torch.empty(side, hidden).uniform_(-bound, bound)) if side else None
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.w_o = nn.Parameter(torch.randn(heads, hidden // heads) * (hidden / heads) ** -0.5)

    def forward(
        self,
        target: Float[Tensor, "B C D"],
        keys: Float[Tensor, "B K D"],
        values: Float[Tensor, "B K D"],
        *,
        side: Float[Tensor, "B K S"] | None = None,
        total: Float[Tensor, "B D"] | None = None,
        padding: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B C HD"]:
        """Attend to `keys`, sum `values`.

        Args:
            target: embeddings of candidates.
            keys: c_k, which candidates are matched with.
            values: v_k, which are summed.
            side: s_k, with S features as in the constructor (concat form only).
            total: Σ_l e_l over the whole history. With it, the target's own term of the split form is exact after
                absorption; without it, Σ_k v_k takes its place.
            padding: number of keys of each user, at the start, that are padding; torch skips them.
        """
        if self.form == "concat" and not torch.compiler.is_exporting():
            return self._by_users(target, keys, values, side, padding)
        if self.form == "concat":
            weight = self._concat(target, keys, side)  # (B, C, H, K)
        else:
            weight = self._split(target, keys, with_target=total is None).mT
        B, C, D = target.shape
        # One product whose rows are all candidates' heads.
        out = (weight.flatten(1, 2) @ values).view(B, C, self.heads, D)
        if total is not None and self.form == "split":
            own = self._project(self._target_term(target))  # (B, C, H)
            out = out + own[..., None] * total[:, None, None]
        return out.flatten(2)

    def _by_users(
        self,
        target: Tensor,
        keys: Tensor,
        values: Tensor,
        side: Tensor | None,
        padding: Tensor | None,
    ) -> Float[Tensor, "B C HD"]:
        B, C, D = target.shape
        fold = self.w_2[:, None] + self.w_3[:, None] * target.mT[..., None]  # (B, D, C, h)
        if side is not None and self.w_s is not None:
            keys = torch.cat([keys, side], -1)
            fold = torch.cat([fold, self.w_s[:, None].expand(B, -1, C, -1)], 1)
        fold, shift = fold.flatten(2), (target @ self.w_1 + self.bias).flatten(1)
        # On a GPU all users are computed at once: only a CPU's cache limits them.
        group = B if target.is_cuda else max(1, CACHE_FLOATS // (keys.shape[1] * C * self.hidden))
        is_skipping = group == 1 and padding is not None and not target.is_cuda
        starts = padding.tolist() if is_skipping and padding is not None else [0] * -(-B // group)
        project = self._block_diagonal()
        rows = []
        # torch.split instead of an index: the gradient of each index would be a full tensor of zeros.
        inputs = (shift, fold, keys, values)
        parts = zip(*(torch.split(x, group) for x in inputs), starts, strict=True)
        for bias, matrix, key, value, start in parts:
            z = torch.baddbmm(bias[:, None], key[:, start:], matrix)  # (users, K, C·h)
            weight = F.leaky_relu(z, self.slope).view(-1, self.hidden) @ project
            rows.append(weight.view(len(key), -1, C * self.heads).mT @ value[:, start:])
        return torch.cat(rows).view(B, C, self.heads * D)

    def _concat(
        self, target: Tensor, keys: Tensor, side: Tensor | None
    ) -> Float[Tensor, "B C H K"]:
        B, C, _ = target.shape
        shift = keys @ self.w_2 + self.bias  # (B, K, h)
        if side is not None and self.w_s is not None:
            shift = shift + side @ self.w_s
        # Units first, keys last: the sum over a head's units is then a product with long rows, and its result has the
        # layout that the sum over keys needs. In the other order, summing and transposing took a quarter of scoring.
        fold = self.w_3[..., None] * keys.mT[:, :, None] + self.w_1[..., None]  # (B, D, h, K)
        # ONNX has no fused affine map for this. As one more row of the product, adding the shift needs no pass over
        # (C, h·K); that pass took a seventh of scoring.
        rows = torch.cat([fold.flatten(2), shift.mT.flatten(1)[:, None]], dim=1)
        z = F.pad(target, (0, 1), value=1.0) @ rows  # (B, C, h·K)
        activated = F.leaky_relu(z, self.slope).view(
            B, C, self.heads, self.hidden // self.heads, -1
        )
        # A row times a matrix for each head: at most half of the arithmetic of a block-diagonal product, and ONNX
        # Runtime does not copy the matrix first, as it does for products of several rows.
        weight: Tensor = (self.w_o[:, None] @ activated).squeeze(-2)
        return weight

    def _split(
        self, target: Tensor, keys: Tensor, *, with_target: bool
    ) -> Float[Tensor, "B C K H"]:
        B, C, _ = target.shape
        key_term = F.leaky_relu(keys @ self.w_2, self.slope)[:, None]  # (B, 1, K, h)
        fold = (keys.mT[..., None] * self.w_3[:, None]).flatten(2)  # (B, D, K·h)
        z = (target @ fold).view(B, C, -1, self.hidden)
        weight = F.leaky_relu(z, self.slope) + key_term
        if with_target:
            weight = weight + self._target_term(target)[:, :, None]
        return self._project(weight)

    def _target_term(self, target: Float[Tensor, "B C D"]) -> Float[Tensor, "B C h"]:
        return F.leaky_relu(target @ self.w_1 + self.bias, self.slope)

    def _project(self, hidden: Float[Tensor, "*batch h"]) -> Float[Tensor, "*batch H"]:
        projected: Tensor = hidden @ self._block_diagonal()
        return projected

    def _block_diagonal(self) -> Float[Tensor, "h H"]:
        w_o: Tensor = torch.block_diag(*self.w_o)  # type: ignore[no-untyped-call]
        return w_o.view(self.heads, self.hidden).mT
