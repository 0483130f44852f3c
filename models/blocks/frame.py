"""What all sequence models share around the long history: embeddings, short-term interest and head."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.batch import Context
from models.blocks.embedding import FieldEmbedding, ItemEmbedding
from models.blocks.mlp import Head
from models.blocks.target_attention import TargetAttention
from models.contract.schema import FeatureSchema


@dataclass(frozen=True)
class FrameConfig:
    """Config that every sequence model has beside that of its long-history part.

    Attributes:
        item_dim: width of an item id's embedding.
        field_dim: width of each other item field's embedding.
        profile_dim: width of each user and context field's embedding.
        hidden: h, width of the attention's φ.
        heads: H.
        slope: slope of every Leaky ReLU below zero.
        mlp: hidden widths of the head.
        dropout: dropout in the head.
        embedding_std: standard deviation of the initial embeddings.
    """

    item_dim: int = 16
    field_dim: int = 4
    profile_dim: int = 4
    hidden: int = 32
    heads: int = 4
    slope: float = 0.1
    mlp: tuple[int, ...] = (512, 256, 128)
    dropout: float = 0.0
    embedding_std: float = 0.2

    def item_width(self, schema: FeatureSchema) -> int:
        """D, width of the embedding of an event or a candidate: its id and its other fields."""
        return self.item_dim + self.field_dim * (len(schema.item_fields) - 1)


class Frame(nn.Module):
    """Embeddings, short-term interest (target attention over the latest N events, as in DIN) and head.

    Args:
        schema: the model's inputs.
        item_fields: dense ids of each catalogue row's fields.
        config: sizes.
        long_dim: width of the vector that the long-history part gives for each candidate; 0 for none.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        item_fields: Int[Tensor, "V F"],
        config: FrameConfig,
        long_dim: int,
    ) -> None:
        super().__init__()
        std = config.embedding_std
        self.items = ItemEmbedding(
            item_fields,
            schema.item_fields,
            item_dim=config.item_dim,
            field_dim=config.field_dim,
            std=std,
        )
        self.profile = FieldEmbedding(schema.user_fields, dim=config.profile_dim, std=std)
        self.context = FieldEmbedding(schema.context_fields, dim=config.profile_dim, std=std)
        self.short = TargetAttention(
            dim=self.items.dim, hidden=config.hidden, heads=config.heads, slope=config.slope
        )
        self.short_scale = schema.recent_length**-0.5
        dim = self.items.dim
        self.head = Head(
            user_dim=self.profile.dim + self.context.dim + dim,
            candidate_dim=dim + config.heads * dim + long_dim,
            widths=config.mlp,
            slope=config.slope,
            dropout=config.dropout,
        )

    def logits(
        self,
        profile: Float[Tensor, "B P"],
        context: Context,
        target: Float[Tensor, "B C D"],
        long: Float[Tensor, "B C Dl"] | None,
    ) -> Float[Tensor, "B C"]:
        """Logits from the profile, the request's context, and the candidates with their vectors of the long history.

        Args:
            profile: embedding of the profile.
            context: context of the request.
            target: embeddings of candidates.
            long: vectors of the long history; None if `long_dim` is 0.
        """
        recent = self.items(context.recent)  # (B, N, D)
        short = self.short(target, recent, recent) * self.short_scale  # (B, C, H·D)
        mean = recent.mean(1)  # (B, D)
        user = torch.cat([profile, self.context(context.fields), mean], dim=-1)
        parts = [target, short] if long is None else [target, short, long]
        logits: Tensor = self.head(user, torch.cat(parts, dim=-1))
        return logits
