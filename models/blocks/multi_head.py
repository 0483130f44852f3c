"""Multi-head target attention in which each candidate has its own events: the second stage of SIM, ETA and TWIN."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.blocks.checks import check_divides

EMBEDDING_STD = 0.2
"""σ of a component of the initial embeddings, as in `FrameConfig`."""


def projection(dim: int, width: int) -> nn.Parameter:
    """Initial weights [dim, width], normal with σ = 1 / (0.2·√dim): projected embeddings have variance 1."""
    return nn.Parameter(torch.randn(dim, width) / (EMBEDDING_STD * dim**0.5))


def pool(
    logit: Float[Tensor, "B C H K"],
    events: Float[Tensor, "B C K D"],
    is_real: Bool[Tensor, "B C K"],
) -> Float[Tensor, "B C H D"]:
    """Mean of each candidate's real events, weighted by the softmax of their logits; zero for a candidate without any.

    Args:
        logit: logit of each event in each head.
        events: rows to average.
        is_real: false where a row of `events` is not an event.
    """
    real = is_real[:, :, None]  # (B, C, 1, K)
    # The smallest number instead of −inf: a candidate without events would give 0/0, also in the gradient.
    weight = logit.masked_fill(~real, torch.finfo(logit.dtype).min).softmax(-1) * real
    return weight @ events


class MultiHead(nn.Module):
    """o^h = Σ_k softmax_k((W_qᵀ e_t)^h · (W_kᵀ z_k)^h / √d_k) z_k, heads concatenated (SIM, 2006.05639v2).

    Values are the events themselves, as in SIM: W_v and W_o would be one more linear map before the head's first linear
    layer, which contains it already.

    No event is projected: (W_qᵀ e_t)·(W_kᵀ z_k) = (W_k W_qᵀ e_t)·z_k is computed with one vector per candidate and
    head, so that a candidate costs O(K·D·H). The result is the same.

    Args:
        dim: D_t, width of targets.
        event_dim: D, width of events. The first D_t columns are embedded as targets are; more (an age) may follow.
        hidden: H·d_k, width of both projections.
        heads: H.

    Raises:
        ValueError: `heads` does not divide `hidden`, or events are narrower than targets.

    Initialisation: W_q such that queries have variance 1; the first D_t rows of W_k equal W_q, so that an event of the
    candidate's own item has the largest weight from the start (independent weights have to learn to recognise an
    item); the other rows of W_k are random like W_q.
    """

    def __init__(self, *, dim: int, event_dim: int, hidden: int, heads: int) -> None:
        super().__init__()
        check_divides("heads", heads, "hidden", hidden)
        if event_dim < dim:
            raise ValueError(f"event_dim: got {event_dim}, expected at least dim = {dim}")
        self.heads, self.scale = heads, (hidden / heads) ** -0.5
        self.w_q = projection(dim, hidden)
        self.w_k = projection(event_dim, hidden)
        with torch.no_grad():
            self.w_k[:dim] = self.w_q

    def forward(
        self,
        target: Float[Tensor, "B C Dt"],
        events: Float[Tensor, "B C K D"],
        is_real: Bool[Tensor, "B C K"],
    ) -> Float[Tensor, "B C HD"]:
        """Attend from each candidate to its own events; zeros for a candidate without any.

        Args:
            target: embeddings of candidates.
            events: z_k = [e_k ⊕ age embedding] of the events that were found for each candidate.
            is_real: false where a row of `events` is not an event.
        """
        query = (self.scale * target @ self.w_q).unflatten(-1, (self.heads, -1))  # (B, C, H, d_k)
        keys = self.w_k.view(len(self.w_k), self.heads, -1)  # (D, H, d_k)
        folded = torch.einsum("bchk,dhk->bchd", query, keys)
        return pool(folded @ events.mT, events, is_real).flatten(2)
