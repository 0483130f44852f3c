"""DIN's attention: a learned score of each event or slot, unnormalised (1706.06978), in LREA's form (2503.02542v4).

    w_h(t, k) = Σ_{j in h} o_j φ(W_1ᵀ e_t + W_2ᵀ c_k + W_3ᵀ (e_t ⊙ c_k) + W_sᵀ s_k + b)_j,   φ = Leaky ReLU
    mass_h = Σ_k n_k w_h,   pooled_h = Σ_k w_h v_k / (1 + Σ_k n_k |w_h|)

c_k are keys, v_k values, n_k the number of events behind a key, s_k further features of it. LREA's Eq. 5 and 9, in the
concatenated form. Weights start as likeness: unit j of head h has W_3 = 4 on the head's own field and 0 elsewhere, W_1
and W_2 are near zero, biases go from 0 to −3, o = 1/units, so that an equal field gives 1 to 4 and a strange one
about 0.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.checks import check_divides
from models.blocks.reading import Read

CACHE_FLOATS = 1 << 18
"""Activations (floats, 1 MB) of the users computed at a time: more do not fit the CPU cache, fewer are overhead."""
LIKE, NEAR = 4.0, 0.02
"""W_3 at the start on a head's own field, and the standard deviation of all other weights."""


class TargetScore(nn.Module):
    """Score of each key for each candidate.

    In the exported graph the user's part is folded once: z = e_t (W_1 + diag(c_k) W_3) + (W_2ᵀ c_k + b) is one matrix
    product of all candidates [C, D] with [D, K·h]. In torch candidates are few and keys are many, so the candidates'
    side is folded: z = c_k (W_2 + diag(e_t) W_3) + (W_1ᵀ e_t + b). There, on a CPU, a few users are computed at a time,
    so that activations stay in the cache.

    Args:
        widths: width of each field's part of a vector.
        hidden: h, width of φ.
        heads: H. Each has h/H of the units.
        slope: slope of φ below zero.
        side: S, number of features s_k; 0 for none.

    Raises:
        ValueError: `heads` does not divide `hidden`.
    """

    def __init__(
        self, widths: Sequence[int], *, hidden: int, heads: int, slope: float, side: int = 0
    ) -> None:
        super().__init__()
        check_divides("heads", heads, "hidden", hidden)
        dim, units = sum(widths), hidden // heads
        self.heads, self.hidden, self.slope = heads, hidden, slope
        field = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths))
        own = (field[:, None] == torch.arange(heads) % len(widths)).float()  # (D, H)
        self.w_1 = nn.Parameter(NEAR * torch.randn(dim, hidden))
        self.w_2 = nn.Parameter(NEAR * torch.randn(dim, hidden))
        self.w_3 = nn.Parameter(
            LIKE * own.repeat_interleave(units, 1) + NEAR * torch.randn(dim, hidden)
        )
        self.w_s = nn.Parameter(NEAR * torch.randn(side, hidden)) if side else None
        self.bias = nn.Parameter(-torch.linspace(0, 3, units).repeat(heads))
        self.w_o = nn.Parameter(torch.full((heads, units), 1 / units))

    def forward(
        self,
        target: Float[Tensor, "B C D"],
        keys: Float[Tensor, "B K D"],
        values: Float[Tensor, "B K D"],
        load: Float[Tensor, "B K"],
        side: Float[Tensor, "B K S"] | None = None,
        padding: Int[Tensor, "B"] | None = None,
        worth: Float[Tensor, "B K H"] | None = None,
    ) -> Read:
        """Attend to `keys`, sum `values`.

        Args:
            target: e_t.
            keys: c_k.
            values: v_k; zero where there is no event.
            load: n_k; 0 where there is no event.
            side: s_k.
            padding: number of keys of each user, at the start, that are padding; a CPU skips them in training.
            worth: factor of each key's weight in each head.
        """
        if torch.compiler.is_exporting():
            weight = self._of_all(target, keys, side)  # (B, C, H, K)
            weight = weight if worth is None else weight * worth.mT[:, None]
            return self._pool(weight.flatten(1, 2), values, load, self.heads)
        if self.w_s is not None and side is not None:
            keys = torch.cat([keys, side], -1)
        group = len(keys)
        if not target.is_cuda:
            floats = keys.shape[1] * target.shape[1] * self.hidden
            group = max(1, CACHE_FLOATS // floats)
        starts = [0] * -(-len(keys) // group)
        if group == 1 and padding is not None and not target.is_cuda:
            starts = padding.tolist()
        fold, shift = self._fold(target)
        # torch.split instead of an index: the gradient of each index would be a full tensor of zeros.
        inputs = (fold, shift, keys, values, load[..., None])
        worths = [None] * len(starts) if worth is None else torch.split(worth, group)
        parts = zip(*(torch.split(x, group) for x in inputs), worths, starts, strict=True)
        reads = [self._of_some(*part) for part in parts]
        return Read(torch.cat([r.mass for r in reads]), torch.cat([r.pooled for r in reads]))

    def _fold(
        self, target: Float[Tensor, "B C D"]
    ) -> tuple[Float[Tensor, "B Dk Ch"], Float[Tensor, "B Ch"]]:
        """Weights of the keys, and shifts, for each candidate's units."""
        fold = self.w_2[:, None] + target.mT[..., None] * self.w_3[:, None]  # (B, D, C, h)
        if self.w_s is not None:
            side = self.w_s[:, None].expand(len(target), -1, target.shape[1], -1)
            fold = torch.cat([fold, side], 1)
        return fold.flatten(2), (target @ self.w_1 + self.bias).flatten(1)

    def _of_some(
        self,
        fold: Tensor,
        shift: Tensor,
        keys: Tensor,
        values: Tensor,
        load: Tensor,
        worth: Tensor | None,
        start: int,
    ) -> Read:
        z = torch.baddbmm(shift[:, None], keys[:, start:], fold)  # (users, K, C·h)
        shape = *z.shape[:2], z.shape[2] // self.hidden, self.hidden
        weight = F.leaky_relu(z, self.slope).view(shape) @ self._deal()  # (users, K, C, H)
        weight = weight if worth is None else weight * worth[:, start:, None]
        weight = weight.flatten(2).mT  # (users, C·H, K)
        return self._pool(weight, values[:, start:], load[:, start:, 0], self.heads)

    def _of_all(
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
        units = self.hidden // self.heads
        activated = F.leaky_relu(z, self.slope).view(B, C, self.heads, units, -1)
        # A row times a matrix for each head: at most half of the arithmetic of a block-diagonal product, and ONNX
        # Runtime does not copy the matrix first, as it does for products of several rows.
        weight: Tensor = (self.w_o[:, None] @ activated).squeeze(-2)
        return weight

    @staticmethod
    def _pool(weight: Tensor, values: Tensor, load: Tensor, heads: int) -> Read:
        summed = weight @ torch.cat([values, load[..., None]], -1)  # (B, C·H, D + 1)
        size = weight.abs() @ load.abs()[..., None]
        shape = summed.shape[0], -1, heads
        summed, size = summed.view(*shape, summed.shape[-1]), size.view(*shape, 1)
        return Read(summed[..., -1], summed[..., :-1] / (1 + size))

    def _deal(self) -> Float[Tensor, "h H"]:
        deal: Tensor = torch.block_diag(*self.w_o)  # type: ignore[no-untyped-call]
        return deal.view(self.heads, self.hidden).mT
