"""SIM: search the history for events like the candidate, attend to those; linear in L online, with a small factor.

Source: arXiv:2006.05639v2. The state is the history itself, catalogue rows and ages: 8 bytes per event in any record
dtype. Cached keys W_bᵀ e_l would take up to 4·h more per event; the score graph computes them in the time that D
candidates' search takes, and what is found does not depend on how keys were rounded.

Cost per candidate: hard O(L) comparisons, soft O(L·h); then O(k·D·H) for attention.

Differs from the paper:
- hard search compares the candidate's category with all L events; the paper's online index (user → category → events)
  finds the same ones.
- hard search keeps the latest k of the category; the paper keeps all of them.
- soft search is exact; the paper's is approximate (ALSH). r_l is divided by √h, which leaves the order as it is.
- attention logits are divided by √d_k.
- both search weights start equal, as do both attention weights (`multi_head.py`): an item finds itself at once.
- of events with (nearly) equal r_l, such as those of one item, the latest ones are kept.
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
    """SIM. `hidden` is also the width of both attention projections and, in soft search, of W_a and W_b.

    Attributes:
        search: "hard" (events of the candidate's category, the latest k) or "soft" (the k largest r_l).
        k: events that a candidate attends to.
        category: hard search only: the item field to compare. None: the recipe's first item field.
        age_dim: width of the embedding of an event's age.
    """

    search: Literal["hard", "soft"] = "soft"
    k: int = 50
    category: str | None = None
    age_dim: int = 4


class SIM(CtrModel):
    """General search r_l = 1[category_l = category_t] or (W_bᵀ e_l)·(W_aᵀ e_t), then attention over the k best z_l.

    z_l = [e_l ⊕ age embedding] (exact search unit). In training the soft search fits the labels by itself: an MLP of
    [Σ_l r_l e_l ⊕ e_t], whose loss is added with weight 1 (α = β = 1). Choosing k events has no gradient.

    Raises:
        ValueError: k below 1, a category for soft search, or one that is no item field.
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
        """Embed the profile, pass on the history."""
        return rows_state(self.frame.profile(user.fields), user, self.schema.history_length)

    def score(self, state: UserState, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Search for each candidate, attend to what was found."""
        return self._attend(state, self.frame.items(state["rows"].long()), context, slate)

    def train_forward(self, user: User, context: Context, slate: Slate) -> TrainOutput:
        """What is served and, for soft search, what the search says by itself."""
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
        search = self.search
        score = (
            self._hard(rows, slate.items) if search is None else search.relevance(target, events)
        )
        index, found = top_k(score, rows != PADDING, self.config.k, resolution=RESOLUTION)
        history = torch.cat(
            [events, self.ages(state["event_ages"].long())], -1
        )  # (B, L, D + age_dim)
        long = self.attention(target, gather_events(history, index), found)
        return self.frame.logits(state["profile"], context, target, long)

    def _hard(self, rows: Int[Tensor, "B L"], items: Int[Tensor, "B C"]) -> Float[Tensor, "B C L"]:
        """Position of the events of each candidate's category, −inf elsewhere: the best are the latest."""
        category = self.frame.items.item_fields[:, self.column]  # (V,)
        is_same = category[items][..., None] == category[rows][:, None]  # (B, C, L)
        position = torch.arange(rows.shape[1], dtype=torch.float32, device=rows.device)
        return torch.where(is_same, position, -torch.inf)


class SoftSearch(nn.Module):
    """r_l = (W_bᵀ e_l)·(W_aᵀ e_t) / √h, and what Σ_l r_l e_l says of a candidate."""

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
        """MLP of [Σ_l r_l e_l ⊕ e_t], fitted in training only. Padding is zero and adds nothing."""
        # r is linear in the candidate, so its sum is one h × D matrix per user: no (B, C, L).
        folded = (events @ self.w_b).mT @ events  # (B, h, D)
        interest = self.sum_scale * self._query(target) @ folded  # (B, C, D)
        logits: Tensor = self.head(torch.cat([interest, target], -1))
        return logits.squeeze(-1)

    def _query(self, target: Float[Tensor, "B C D"]) -> Float[Tensor, "B C h"]:
        query: Tensor = self.scale * target @ self.w_a
        return query


def _check(config: SIMConfig) -> None:
    if config.k < 1:
        raise ValueError(f"k: got {config.k}, expected at least 1")
    if config.search == "soft" and config.category is not None:
        raise ValueError("category: only for search = 'hard'")


def _category_column(schema: FeatureSchema, config: SIMConfig) -> int:
    names = [field.name for field in schema.item_fields]
    described = [name for name in names[1:] if name != "popularity"]
    if config.category is None and not described:
        raise ValueError("search: 'hard' needs an item field to compare; there is none")
    category = config.category or described[0]
    if category not in names[1:]:
        raise ValueError(f"category: {category!r} is not an item field; there are {names[1:]}")
    return names.index(category)
