"""TWIN: one attention that is used twice, to search the history and to sum the events that were found.

Source: arXiv:2302.02352v2. The state is the history itself, catalogue rows and ages: 8 bytes per event in any record
dtype. Cached keys K_h W^h would take up to 4·hidden bytes more per event. The score graph computes them in the time
that the search for D candidates takes, and the search does not depend on how a record rounds its numbers. (The keys
belong to the items, not to the user: the paper caches them per item.)

Cost per candidate: O(L·hidden) for α, linear in L; then O(k·H·D).

Differs from the paper:
- the k events of a candidate are those with the largest α in any head (max over heads); the paper takes the best event
  of each head in turn until it has k. Values stay per head.
- there is one cross feature, the event's age (J = 1). Its compression and β are one weight per component and head;
  β starts at zero.
- W^q and W^h start equal, as in `multi_head.py`: from the start, a candidate finds events of its own item.
- of events with (nearly) equal α, the latest are kept.
- W^o is as wide as the heads' values together.
- all weights have one learning rate; the short history goes through the frame's target attention.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import CtrModel, UserState
from models.batch import Context, Slate, User
from models.blocks.checks import check_at_least
from models.blocks.embedding import embedding
from models.blocks.event_rows import rows_spec, rows_state
from models.blocks.frame import Frame, FrameConfig
from models.blocks.multi_head import pool, projection
from models.blocks.top_k import RESOLUTION, gather_events, top_k
from models.contract.age import NUM_AGES
from models.contract.record import StateSpec
from models.contract.schema import PADDING, FeatureSchema


@dataclass(frozen=True)
class TWINConfig(FrameConfig):
    """Options of TWIN. `hidden` is H·d_k.

    Attributes:
        k: number of events that a candidate attends to.
        age_dim: width of the embedding of an event's age, the cross feature.
    """

    k: int = 100
    age_dim: int = 8


class TWIN(CtrModel):
    """α^h = (K_h W^h)(W^qᵀ e_t)ᵀ/√d_k + K_c β^h; head^h = softmax(α^h)ᵀ K W^v over the k best; [head^1 ⊕ …] W^o.

    K = [K_h | K_c] has a row per event: the embeddings of its item and of its age. Search and attention use the same α,
    so that it is computed once.

    Raises:
        ValueError: k is below 1, or `heads` does not divide `hidden`.

    Initialisation: W^q such that queries have variance 1; W^h equal to W^q; β zero; W^v normal with σ = D^-½.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: TWINConfig
    ) -> None:
        super().__init__()
        check_at_least(1, k=config.k)
        self.schema, self.config = schema, config
        dim = config.item_width(schema)
        width = config.heads * dim
        self.frame = Frame(schema, item_fields, config, width)
        self.ages = embedding(NUM_AGES, config.age_dim, config.embedding_std)
        self.w_q = projection(dim, config.hidden)
        self.w_h = nn.Parameter(self.w_q.detach().clone())
        self.beta = nn.Parameter(torch.zeros(config.age_dim, config.heads))
        event_dim = dim + config.age_dim
        self.w_v = nn.Parameter(torch.randn(config.heads, event_dim, dim) * event_dim**-0.5)
        self.w_o = nn.Linear(width, width, bias=False)

    def state_spec(self) -> StateSpec:
        """The profile and the history: catalogue rows and ages."""
        return rows_spec(self.frame.profile.dim, self.schema.history_length)

    def encode(self, user: User) -> UserState:
        """Embed the profile, and keep the history as it is."""
        return rows_state(self.frame.profile(user.fields), user, self.schema.history_length)

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Attend to the k events with the largest α."""
        rows = state["rows"].long()  # (B, L)
        target = self.frame.items(slate.items)  # (B, C, D)
        inherent, cross = self.frame.items(rows), self.ages(state["event_ages"].long())
        alpha = self.alpha(target, inherent, cross)  # (B, H, C, L)
        index, is_found = top_k(
            alpha.amax(1), rows != PADDING, self.config.k, resolution=RESOLUTION
        )
        by_head = index[:, None].expand(-1, self.config.heads, -1, -1)  # (B, H, C, K)
        chosen = alpha.gather(-1, by_head).transpose(1, 2)  # (B, C, H, K)
        events = gather_events(torch.cat([inherent, cross], -1), index)  # (B, C, K, D + age_dim)
        heads = torch.einsum("bchd,hde->bche", pool(chosen, events, is_found), self.w_v)
        return self.frame.logits(state["profile"], context, target, self.w_o(heads.flatten(2)))

    def alpha(
        self,
        target: Float[Tensor, "B C D"],
        inherent: Float[Tensor, "B L D"],
        cross: Float[Tensor, "B L Da"],
    ) -> Float[Tensor, "B H C L"]:
        """α of each event for each candidate, by head.

        Args:
            target: embeddings of candidates.
            inherent: K_h, embeddings of the events' items.
            cross: K_c, embeddings of the events' ages.
        """
        B, H = target.shape[0], self.config.heads
        scale = (self.config.hidden / H) ** -0.5
        d_k = self.config.hidden // H
        query = (scale * target @ self.w_q).view(B, -1, H, d_k)  # (B, C, H, d_k)
        keys = (inherent @ self.w_h).view(B, -1, H, d_k)  # (B, L, H, d_k)
        # K_c β as one more component of each key, for a query of 1: adding it needs no pass over (B, H, C, L).
        query = nn.functional.pad(query, (0, 1), value=1.0)
        keys = torch.cat([keys, (cross @ self.beta)[..., None]], -1)
        return query.transpose(1, 2) @ keys.permute(0, 2, 3, 1)
