"""Embeddings and first-order weights of all fields of a click, in this order: user, context, item, candidate."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.batch import Context, Slate
from models.blocks.embedding import FieldEmbedding, ItemEmbedding
from models.contract.schema import FeatureSchema


@dataclass(frozen=True)
class FieldFrameConfig:
    """Config that every field model has.

    Attributes:
        dim: D, width of each field's embedding.
        embedding_std: standard deviation of the initial embeddings.
    """

    dim: int = 32
    embedding_std: float = 0.01


class FieldFrame(nn.Module):
    """An embedding and, if `has_linear` is true, a first-order weight for each value of each field.

    Args:
        schema: the fields.
        item_fields: dense ids of each catalogue row's fields.
        config: sizes.
        has_linear: whether fields have first-order weights.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        item_fields: Int[Tensor, "V F"],
        config: FieldFrameConfig,
        *,
        has_linear: bool,
    ) -> None:
        super().__init__()
        self.num_user, self.num_context, self.num_item, self.num_candidate = (
            len(fields)
            for fields in (
                schema.user_fields,
                schema.context_fields,
                schema.item_fields,
                schema.candidate_fields,
            )
        )
        self.dim = config.dim
        self.items, self.profile, self.context, self.candidate = _tables(
            schema, item_fields, config.dim, config.embedding_std
        )
        self.linear = nn.ModuleList(_tables(schema, item_fields, 1, 0.0) if has_linear else ())
        self.bias = nn.Parameter(torch.zeros(1))

    @property
    def num_fields(self) -> int:
        """K, number of fields."""
        return self.num_user + self.num_online

    @property
    def num_online(self) -> int:
        """Ko, number of fields that are known only online: those of the context, the item and the candidate."""
        return self.num_context + self.num_item + self.num_candidate

    def user(self, fields: Int[Tensor, "B Fu"]) -> Float[Tensor, "B Fu D"]:
        """Embeddings of the profile's fields."""
        if not self.num_user:  # ONNX cannot reshape to an axis of size 0 beside a dynamic one
            return self.bias.new_zeros(fields.shape[0], 0, self.dim)
        out: Tensor = self.profile(fields).view(fields.shape[0], self.num_user, self.dim)
        return out

    def online(self, context: Context, slate: Slate) -> Float[Tensor, "B C Ko D"]:
        """Embeddings of the context's fields, repeated for each candidate, and of the candidates' own fields."""
        B, C = slate.items.shape
        items: Tensor = self.items(slate.items).view(B, C, self.num_item, self.dim)
        parts = [items]
        if self.num_context:
            shared = self.context(context.fields).view(B, 1, self.num_context, self.dim)
            # Added to zeros instead of expanded: the exporter would write the slate's size as a constant.
            parts = [shared + torch.zeros_like(items[:, :, :1]), items]
        if self.num_candidate:
            given = self.candidate(slate.fields.flatten(0, 1))
            parts.append(given.view(B, C, self.num_candidate, self.dim))
        return torch.cat(parts, 2) if len(parts) > 1 else items

    def embedded_rows(
        self,
        user: Int[Tensor, "B Fu"],
        context: Context,
        slate: Slate,
        profile: Float[Tensor, "B Fu D"],
        online: Float[Tensor, "B C Ko D"],
    ) -> tuple[Float[Tensor, "R D"], Float[Tensor, "R"], Int[Tensor, "R"]]:
        """Embeddings of the clicks of a batch, the number of clicks that have each, and the field of each.

        Every position of a slate counts as a click, also padded ones: there is no mask.
        A table with fewer rows than there are clicks is returned whole, with the counts of its rows; of a larger one,
        the rows that were looked up. So fields with few values cost little.

        Args:
            user: dense ids of the profile's fields.
            context: context of the requests.
            slate: candidates of the requests.
            profile: embeddings, as the method `user` returns them.
            online: embeddings, as the method `online` returns them.
        """
        B, C = slate.items.shape
        items = self.items.item_fields[slate.items].flatten(0, 1)  # (N, F)
        ids = [(column, C) for column in torch.cat([user, context.fields], 1).T]
        ids += [(column, 1) for column in torch.cat([items, slate.fields.flatten(0, 1)], 1).T]
        tables = [
            *self.profile.tables,
            *self.context.tables,
            *self.items.tables,
            *self.candidate.tables,
        ]
        rows, weights = [], []
        for k, ((column, repeats), table) in enumerate(zip(ids, tables, strict=True)):
            if len(table.weight) < B * C:
                rows.append(table.weight)
                weights.append(repeats * torch.bincount(column, minlength=len(table.weight)))
            elif k < self.num_user:
                rows.append(profile[:, k])
                weights.append(torch.full_like(column, repeats))
            else:
                rows.append(online[:, :, k - self.num_user].flatten(0, 1))
                weights.append(torch.ones(B * C, dtype=torch.long, device=column.device))
        sizes = torch.tensor([len(part) for part in rows], device=slate.items.device)
        fields = torch.arange(len(rows), device=slate.items.device).repeat_interleave(sizes)
        return torch.cat(rows), torch.cat(weights).to(profile.dtype), fields

    def user_linear(self, fields: Int[Tensor, "B Fu"]) -> Float[Tensor, "#B 1"]:
        """Sum of the bias and the first-order weights of the profile."""
        if not self.linear:
            return self.bias[None]
        out: Tensor = self.linear[1](fields).sum(1, keepdim=True) + self.bias
        return out

    def online_linear(self, context: Context, slate: Slate) -> Float[Tensor, "B C"]:
        """Sum of the first-order weights of the context and of each candidate."""
        if not self.linear:
            return torch.zeros_like(slate.items, dtype=self.bias.dtype)
        out: Tensor = self.linear[0](slate.items).sum(2)
        out = out + self.linear[2](context.fields).sum(1, keepdim=True)
        if self.num_candidate:
            given = self.linear[3](slate.fields.flatten(0, 1)).sum(1)
            out = out + given.view(slate.items.shape)
        return out


def _tables(
    schema: FeatureSchema, item_fields: Int[Tensor, "V F"], dim: int, std: float
) -> tuple[ItemEmbedding, FieldEmbedding, FieldEmbedding, FieldEmbedding]:
    return (
        ItemEmbedding(item_fields, schema.item_fields, item_dim=dim, field_dim=dim, std=std),
        FieldEmbedding(schema.user_fields, dim=dim, std=std),
        FieldEmbedding(schema.context_fields, dim=dim, std=std),
        FieldEmbedding(schema.candidate_fields, dim=dim, std=std),
    )
