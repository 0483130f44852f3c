"""What all sequence models share around the long history: embeddings, short-term interest, head, linear path.

    logit = b_item + w · asinh(masses) + MLP(user ⊕ candidate)
    user      = profile ⊕ context ⊕ log n ⊕ log activity
    candidate = e_t ⊕ its other fields ⊕ asinh(masses) ⊕ pooled ⊕ e_t ⊙ pooled

Masses and pooled vectors come from the model's readers of the long history (`models/readers/`), and from kernel
attention over the latest N events, the short-term interest. All readers have the same inputs and outputs, so models
differ only in how they read the long history.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.batch import Context, Slate, User
from models.blocks.attention.age_bias import NEVER, AgeBias
from models.blocks.attention.kernel import FieldKernel
from models.blocks.embedding import FieldEmbedding, embedding
from models.blocks.mlp import Head
from models.blocks.reading import Candidates, Read
from models.blocks.take_rows import take_rows
from models.blocks.unit_items import ItemLayout, LookUp, UnitItems
from models.contract.age import NUM_AGES
from models.contract.schema import PADDING, FeatureSchema

SHORT_HEADS = 2
"""Heads of the short-term interest: they start with the item and with its first field."""
FIELD_STD = 0.5
"""Standard deviation of the initial embeddings of fields by which nothing is matched."""
STEEPEST = 16.0
"""How far the log weight of the activity's steepest total falls at the start, from the newest age to the oldest.
`AgeBias` stops it at −8, at three days."""
LENGTH_SCALE = 8.0
"""log(1 + n) is divided by this: the log of 3,000 events."""


@dataclass(frozen=True)
class FrameConfig:
    """Config that every sequence model has beside that of its readers.

    Attributes:
        item_dim: width of the part of an item's vector that is its own.
        field_dim: width of the part of each other item field.
        unmatched: item fields by which nothing is matched: they are inputs of the head, not parts of the vector.
        profile_dim: width of the embedding of each user, context, candidate and unmatched item field.
        heads: H of each reader that attends. Head h starts sharp in the vector's field h: the item, then the item
            fields of the recipe in their order, without those in `unmatched`. With fewer heads than fields, the last
            fields get no head of their own; they count a little in each. So the order of `data.item_fields` matters.
        mlp: hidden widths of the head.
        dropout: dropout in the head.
        embedding_dropout: dropout on the head's inputs that contain item vectors.
        id_dropout: share of the items whose own part of the vector is hidden in a step of training.
        id_rate: factor on the learning rate of the items' own parts and biases, which are the first to overfit.
        slope: slope of every Leaky ReLU below zero.
        activity: number of further totals of the long history, log(1 + Σ_l exp(b_j[age of l])), that the head sees
            beside its length: how often the user buys at all, lately and before. They do not depend on the candidate,
            so they cost nothing online.
    """

    item_dim: int = 32
    field_dim: int = 8
    unmatched: tuple[str, ...] = ("popularity",)
    profile_dim: int = 4
    heads: int = 4
    mlp: tuple[int, ...] = (128, 64)
    dropout: float = 0.0
    embedding_dropout: float = 0.0
    id_dropout: float = 0.0
    id_rate: float = 1.0
    slope: float = 0.1
    activity: int = 0

    def layout(self, schema: FeatureSchema) -> ItemLayout:
        """The fields of an item's vector."""
        return ItemLayout.of(schema.item_fields, self.unmatched, self.item_dim, self.field_dim)

    def matched(self, schema: FeatureSchema) -> tuple[str, ...]:
        """Names of the fields of an item's vector; attention's heads start with the first H of them."""
        return tuple(schema.item_fields[column].name for column in self.layout(schema).columns)


class Activity(nn.Module):
    """Totals of a history under learned age weights; at the start, of ever newer events only.

    Args:
        number: of totals.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.ages = number, AgeBias(number)
        slope = torch.arange(1, number + 1) * STEEPEST / number
        age = torch.arange(NUM_AGES) / NUM_AGES
        self.ages.bias = nn.Parameter(-age[:, None] * slope)

    def forward(self, ages: Int[Tensor, "B L"]) -> Float[Tensor, "B A"]:
        """log(1 + Σ_l exp(b_j[age of l])), scaled as the length is."""
        total: Tensor = self.ages(ages).sum(1)
        return total.log1p() / LENGTH_SCALE


class Frame(nn.Module):
    """Everything but the readers of the long history.

    Args:
        schema: the model's inputs.
        item_fields: dense ids of each catalogue row's fields.
        config: sizes.
        masses: number of masses of all readers together.
        pooled: number of their pooled vectors.
        has_length: whether the state says how long the history is.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        item_fields: Int[Tensor, "V F"],
        config: FrameConfig,
        *,
        masses: int,
        pooled: int,
        has_length: bool,
    ) -> None:
        super().__init__()
        layout = config.layout(schema)
        self.items = UnitItems(item_fields, schema.item_fields, layout, config.id_dropout)
        width, self.has_length = config.profile_dim, has_length
        self.activity = Activity(config.activity) if has_length and config.activity else None
        self.profile = FieldEmbedding(schema.user_fields, dim=width, std=FIELD_STD)
        self.context = FieldEmbedding(schema.context_fields, dim=width, std=FIELD_STD)
        described = [schema.item_fields[column] for column in layout.unmatched]
        described += schema.candidate_fields
        self.described = FieldEmbedding(described, dim=width, std=FIELD_STD)
        self.bias = embedding(schema.item_fields[0].size, 1, 0.0)
        self.short = FieldKernel(layout.widths, SHORT_HEADS)
        self.wide = nn.Linear(masses + SHORT_HEADS, 1, bias=False)
        nn.init.zeros_(self.wide.weight)
        self.dropout = nn.Dropout(config.embedding_dropout)
        vectors = 1 + 2 * (pooled + SHORT_HEADS)
        self.head = Head(
            user_dim=self.profile_dim + self.context.dim,
            candidate_dim=vectors * layout.dim + self.described.dim + masses + SHORT_HEADS,
            widths=config.mlp,
            slope=config.slope,
            dropout=config.dropout,
        )

    @property
    def id_weights(self) -> list[nn.Parameter]:
        """Weights of single items."""
        ids = self.items.tables[0].get_parameter("weight")
        return [ids, self.bias.get_parameter("weight")]

    @property
    def profile_dim(self) -> int:
        """Width of what `encode_profile` returns."""
        activity = self.activity.number if self.activity else 0
        return self.profile.dim + activity + self.has_length

    def encode_profile(self, user: User) -> Float[Tensor, "B P"]:
        """Embeddings of the profile's fields, activity, and last log(1 + n) of the history's length."""
        fields: Tensor = self.profile(user.fields)
        if not self.has_length:
            return fields
        if self.activity:
            fields = torch.cat([fields, self.activity(user.ages)], -1)
        length = (user.history != PADDING).sum(1, keepdim=True).to(fields.dtype)
        return torch.cat([fields, length.log1p() / LENGTH_SCALE], -1)

    def set_base_log_odds(self, log_odds: float) -> None:
        """Start the logit at a base rate. For a model that is not yet trained."""
        with torch.no_grad():
            self.head.out.bias.fill_(log_odds)

    def logits(
        self,
        profile: Float[Tensor, "B P"],
        context: Context,
        slate: Slate,
        candidates: Candidates,
        reads: Sequence[Read],
        look_up: LookUp,
    ) -> Float[Tensor, "B C"]:
        """Logits of candidates.

        Args:
            profile: as `encode_profile` returns it.
            context: context of the request.
            slate: the candidates.
            candidates: their rows and vectors.
            reads: what the readers say of them.
            look_up: vectors of catalogue rows.
        """
        target = candidates.vectors
        reads = [*reads, self._short(context, target, look_up)]
        masses = torch.cat([read.mass for read in reads], -1).asinh()
        pooled = torch.cat([read.pooled for read in reads], 2)
        products = pooled * target[:, :, None]
        vectors = torch.cat([target, pooled.flatten(2), products.flatten(2)], -1)
        fields = self.items.item_fields[slate.items]  # (B, C, F)
        described = [fields[..., column, None] for column in self.items.layout.unmatched]
        described.append(slate.fields)
        parts = [self.dropout(vectors), self.described(torch.cat(described, -1)), masses]
        user = torch.cat([profile, self.context(context.fields)], -1)
        logits: Tensor = self.head(user, torch.cat(parts, -1)) + self.wide(masses).squeeze(-1)
        bias = take_rows(self.bias.weight, fields[..., 0])
        return logits + bias.squeeze(-1)

    def _short(self, context: Context, target: Float[Tensor, "B C D"], look_up: LookUp) -> Read:
        """Kernel attention over the latest N events, whatever their ages."""
        padding = NEVER * (context.recent == PADDING)[..., None].to(target.dtype)
        shift = padding.expand(-1, -1, SHORT_HEADS)
        read: Read = self.short(target, look_up(context.recent), shift)
        return read
