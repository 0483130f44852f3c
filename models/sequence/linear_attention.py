"""Linear attention: a kernel replaces the softmax, so that the whole history is summed into h×D numbers.

Source: Katharopoulos et al. 2020, arXiv:2006.16236v3, with the candidate as the only query. State: for each head the
matrix Σ_l φ(k_l) v_lᵀ and its normaliser Σ_l φ(k_l), together h·(D + 1) numbers. Cost per candidate: O(h·D).

Differs from the paper:
- values are the events themselves: W_v would be one more linear map before the head's first linear layer.
- queries and keys start with equal weights, so that from the start an event of the candidate's own item has the
  largest weight.
- the state holds means instead of sums; 1e-6 is added to the divisor, so that an empty history gives zero.
- ages of events are not used.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import CtrModel, UserState
from models.batch import Context, Slate, User
from models.blocks.checks import check_divides
from models.blocks.frame import Frame, FrameConfig
from models.blocks.multi_head import projection
from models.contract.record import StateSpec, TensorSpec
from models.contract.schema import PADDING, FeatureSchema


@dataclass(frozen=True)
class LinearAttentionConfig(FrameConfig):
    """Options of linear attention. `hidden` is the width of queries and keys over all heads."""


class LinearAttention(CtrModel):
    """o = φ(q) (Σ_l φ(k_l) v_lᵀ) / (φ(q)·Σ_l φ(k_l)), φ(x) = elu(x) + 1, per head.

    Raises:
        ValueError: `heads` does not divide `hidden`.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: LinearAttentionConfig
    ) -> None:
        super().__init__()
        check_divides("heads", config.heads, "hidden", config.hidden)
        self.config = config
        dim = config.item_width(schema)
        self.frame = Frame(schema, item_fields, config, config.heads * dim)
        self.w_q = projection(dim, config.hidden)
        self.w_k = nn.Parameter(self.w_q.detach().clone())

    def state_spec(self) -> StateSpec:
        """The profile, the heads' matrices (stacked) and their normalisers."""
        hidden = self.config.hidden
        return (
            TensorSpec("profile", (self.frame.profile.dim,)),
            TensorSpec("memory", (hidden, self.frame.items.dim)),
            TensorSpec("normaliser", (hidden,)),
        )

    def encode(self, user: User) -> UserState:
        """Sum the events. φ(0) is 1, so padding is masked.

        Sums are divided by the number of events, which cancels in the score. Divided by L, a short history would come
        near the smallest numbers of fp16 and near the 1e-6 in the divisor.
        """
        events = self.frame.items(user.history)  # (B, L, D)
        keys = F.elu(events @ self.w_k) + 1  # (B, L, h)
        is_real = (user.history != PADDING)[..., None]  # (B, L, 1)
        keys = keys * is_real / is_real.sum(1, keepdim=True).clamp(min=1)
        return {
            "profile": self.frame.profile(user.fields),
            "memory": keys.mT @ events,
            "normaliser": keys.sum(1),
        }

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Attend from each candidate."""
        target = self.frame.items(slate.items)  # (B, C, D)
        heads = self.config.heads
        B, C, D = target.shape
        query = (F.elu(target @ self.w_q) + 1).view(B, C, heads, -1)  # (B, C, H, d_k)
        memory = state["memory"].view(B, heads, -1, D)  # (B, H, d_k, D)
        normaliser = state["normaliser"].view(B, heads, -1)  # (B, H, d_k)
        mass = torch.einsum("bchk,bhk->bch", query, normaliser)[..., None] + 1e-6
        long = torch.einsum("bchk,bhkd->bchd", query, memory) / mass
        return self.frame.logits(state["profile"], context, target, long.flatten(2))
