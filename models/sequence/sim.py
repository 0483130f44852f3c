"""SIM: search the history for events like the candidate, then attend to those. O(L) online, with a small factor.

Source: arXiv:2006.05639v2. The state is the history itself, catalogue rows and ages: 8 bytes per event in any record
dtype. Cached keys W_bᵀ e_l would take up to 4·h bytes more per event. The score graph computes them in the time that
the search for D candidates takes, and the search does not depend on how a record rounds its numbers.

Cost per candidate: hard O(L) comparisons, soft O(L·h); then O(k·D·H) for attention.

Differs from the paper:
- hard search compares the candidate's category with all L events; the paper's online index (user → category → events)
  finds the same events.
- hard search keeps the latest k events of the category; the paper keeps all of them.
- soft search is exact; the paper's is approximate (ALSH). r_l is divided by √h, which does not change the order.
- attention logits are divided by √d_k.
- both search weights start equal, and so do both attention weights (`multi_head.py`): from the start, a candidate finds
  events of its own item.
- of events with (nearly) equal r_l, such as those of one item, the latest are kept.
- U_r is divided by √L, and the search unit has one hidden layer.
- search and attention share the item embeddings.
- the short history goes through the frame's target attention instead of DIEN.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import CtrModel, TrainOutput, UserState
from models.batch import Context, Slate, User
from models.blocks.checks import check_at_least
from models.blocks.embedding import embedding
from models.blocks.event_rows import rows_spec, rows_state
from models.blocks.frame import Frame, FrameConfig
from models.blocks.multi_head import MultiHead, projection
from models.blocks.top_k import RESOLUTION, gather_events, top_k
from models.contract.age import NUM_AGES
from models.contract.record import StateSpec
from models.contract.schema import PADDING, FeatureSchema


@dataclass(frozen=True)
class SIMConfig(FrameConfig):
    """Options of SIM. `hidden` is also the width of both attention projections and, in soft search, of W_a and W_b.

    Attributes:
        search: "hard" (events of the candidate's category, the latest k) or "soft" (the k largest r_l).
        k: number of events that a candidate attends to.
        category: the item field that hard search compares; None takes the recipe's first item field.
        age_dim: width of the embedding of an event's age.
    """

    search: Literal["hard", "soft"] = "soft"
    k: int = 50
    category: str | None = None
    age_dim: int = 4


class SIM(CtrModel):
    """General search r_l = 1[category_l = category_t] or (W_bᵀ e_l)·(W_aᵀ e_t), then attention over the k best z_l.

    z_l = [e_l ⊕ age embedding] (exact search unit). In training, the soft search also predicts the labels by itself: an
    MLP of [Σ_l r_l e_l ⊕ e_t], whose loss is added with weight 1 (α = β = 1). The choice of k events has no gradient.

    Raises:
        ValueError: k is below 1, soft search has a category, or the category is not an item field.
    """

    def __init__(
        self, schema: FeatureSchema, item_fields: Int[Tensor, "V F"], config: SIMConfig
    ) -> None:
        super().__init__()
        _check(config)
        self.schema, self.config = schema, config
        dim = config.item_width(schema)
        self.frame = Frame(schema, item_fields, config, config.heads * (dim + config.age_dim))
        self.ages = embedding(NUM_AGES, config.age_dim, config.embedding_std)
        self.attention = MultiHead(
            dim=dim, event_dim=dim + config.age_dim, hidden=config.hidden, heads=config.heads
        )
        self.search = self.column = None
        if config.search == "soft":
            self.search = SoftSearch(
                dim=dim, hidden=config.hidden, length=schema.history_length, slope=config.slope
            )
        else:
            self.column = _category_column(schema, config)

    def state_spec(self) -> StateSpec:
        """The profile and the history: catalogue rows and ages."""
        return rows_spec(self.frame.profile.dim, self.schema.history_length)

    def encode(self, user: User) -> UserState:
        """Embed the profile, and keep the history as it is."""
        return rows_state(self.frame.profile(user.fields), user, self.schema.history_length)

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Search events for each candidate, then attend to them."""
        return self._attend(state, self.frame.items(state["rows"].long()), context, slate)

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """The served logits and, for soft search, the logits of the search unit as auxiliary ones."""
        state, events = self.encode(user), self.frame.items(user.history)
        logits = self._attend(state, events, context, slate)
        if self.search is None:
            return TrainOutput(logits)
        return TrainOutput(
            logits, auxiliary=(self.search.logits(self.frame.items(slate.items), events),)
        )

    def _attend(
        self, state: UserState, events: Float[Tensor, "B L D"], context: Context, slate: Slate
    ) -> Float[Tensor, "B C"]:
        target = self.frame.items(slate.items)  # (B, C, D)
        rows = state["rows"].long()  # (B, L)
        soft = self.search
        score = self._hard(rows, slate.items) if soft is None else soft.relevance(target, events)
        index, is_found = top_k(score, rows != PADDING, self.config.k, resolution=RESOLUTION)
        ages = self.ages(state["event_ages"].long())  # (B, L, age_dim)
        history = torch.cat([events, ages], -1)  # (B, L, D + age_dim)
        long = self.attention(target, gather_events(history, index), is_found)
        return self.frame.logits(state["profile"], context, target, long)

    def _hard(self, rows: Int[Tensor, "B L"], items: Int[Tensor, "B C"]) -> Float[Tensor, "B C L"]:
        """Score of hard search: the position of an event of the candidate's category, so the latest win; else −inf."""
        category = self.frame.items.item_fields[:, self.column]  # (V,)
        is_same = category[items][..., None] == category[rows][:, None]  # (B, C, L)
        position = torch.arange(rows.shape[1], dtype=torch.float32, device=rows.device)
        return torch.where(is_same, position, -torch.inf)


class SoftSearch(nn.Module):
    """r_l = (W_bᵀ e_l)·(W_aᵀ e_t) / √h, and logits of an MLP of [Σ_l r_l e_l ⊕ e_t].

    Args:
        dim: D, width of events and candidates.
        hidden: h.
        length: L; Σ_l r_l e_l is divided by √L.
        slope: slope of Leaky ReLU below zero.
    """

    def __init__(self, *, dim: int, hidden: int, length: int, slope: float) -> None:
        super().__init__()
        self.w_a = projection(dim, hidden)
        self.w_b = nn.Parameter(self.w_a.detach().clone())
        self.head = nn.Sequential(
            nn.Linear(2 * dim, hidden), nn.LeakyReLU(slope), nn.Linear(hidden, 1)
        )
        self.scale, self.sum_scale = hidden**-0.5, length**-0.5

    def relevance(
        self, target: Float[Tensor, "B C D"], events: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B C L"]:
        """r_l of each event for each candidate."""
        return self._query(target) @ (events @ self.w_b).mT

    def logits(
        self, target: Float[Tensor, "B C D"], events: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B C"]:
        """MLP of [Σ_l r_l e_l ⊕ e_t], for training only. Padding embeds as zero, so it needs no mask."""
        # r is linear in the candidate, so the sum is one h × D matrix per user: no (B, C, L) tensor is needed.
        folded = (events @ self.w_b).mT @ events  # (B, h, D)
        interest = self.sum_scale * self._query(target) @ folded  # (B, C, D)
        logits: Tensor = self.head(torch.cat([interest, target], -1))
        return logits.squeeze(-1)

    def _query(self, target: Float[Tensor, "B C D"]) -> Float[Tensor, "B C h"]:
        query: Tensor = self.scale * target @ self.w_a
        return query


def _check(config: SIMConfig) -> None:
    check_at_least(1, k=config.k)
    if config.search == "soft" and config.category is not None:
        raise ValueError(f"category: got {config.category!r}, expected none with search = 'soft'")


def _category_column(schema: FeatureSchema, config: SIMConfig) -> int:
    names = [field.name for field in schema.item_fields]
    described = [name for name in names[1:] if name != "popularity"]
    if config.category is None and not described:
        raise ValueError("search: got 'hard', expected 'soft': there is no item field to compare")
    category = config.category or described[0]
    if category not in names[1:]:
        raise ValueError(f"category: got {category!r}, expected an item field among {names[1:]}")
    return names.index(category)
