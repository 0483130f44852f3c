"""A plan -> the weights of the engine, folded so that a request multiplies only what depends on it."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.contract.plan import ItemSlotsPlan, PlanSizes
from service.runtime.engines.engine import UnfitError
from service.runtime.engines.torch.weights import Sizes, Weights

LAYERS = 2
"""Hidden layers of the head that the kernels have."""


def fold(plan: ItemSlotsPlan) -> tuple[Weights, Sizes]:
    """Weights, with unpadded widths, and sizes.

    Raises:
        UnfitError: the head does not have two hidden layers.
    """
    sizes = plan.sizes
    if len(sizes.layers) != LAYERS:
        raise UnfitError("shape", f"layers: got {sizes.layers}, expected {LAYERS} hidden layers")
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in plan.tensors.items()}
    target, pooled, products, described, placed, masses = _candidate_parts(
        tensors["layer.0"].T, sizes
    )
    profile, contexts = torch.split(
        tensors["user"].T, [sizes.profile, _width(sizes, sizes.context)]
    )
    context_terms, context_starts = _terms(tensors, "context", contexts, sizes)
    field_terms, field_starts = _terms(tensors, "candidate", placed, sizes)
    column = torch.repeat_interleave(torch.tensor(sizes.widths))  # field of each column
    tau = torch.cat([tensors["tau"], tensors["short_tau"]])  # (G, F)
    by_group = (sizes.groups, sizes.dim, sizes.layers[0])
    weights = Weights(
        vectors=tensors["vectors"],
        item_terms=tensors["vectors"] @ target + tensors["described"] @ described,
        item_bias=tensors["item_bias"],
        tau=tau[:, column],
        tau_sum=tau.sum(1),
        profile=profile,
        bias=tensors["layer_bias.0"],
        context_terms=context_terms,
        context_starts=context_starts,
        field_terms=field_terms,
        field_starts=field_starts,
        pooled=pooled.reshape(by_group),
        products=products.reshape(by_group),
        masses=masses,
        wide=tensors["wide"],
        hidden=tensors["layer.1"].T,
        hidden_bias=tensors["layer_bias.1"],
        out=tensors["out"],
        out_bias=tensors["out_bias"],
    )
    return weights, _sizes(sizes)


def _candidate_parts(first: Tensor, sizes: PlanSizes) -> Sequence[Tensor]:
    """The first layer's rows of each part of a candidate's input."""
    group = sizes.dim * sizes.groups
    placed = _width(sizes, sizes.candidate)
    return torch.split(first, [sizes.dim, group, group, sizes.described, placed, sizes.groups])


def _width(sizes: PlanSizes, fields: Sequence[int]) -> int:
    return len(fields) * sizes.embedding


def _terms(
    tensors: dict[str, Tensor], kind: str, weight: Tensor, sizes: PlanSizes
) -> tuple[Tensor, Tensor]:
    """First layer of each id of some fields, one field below the other, and each field's first row there."""
    fields = sizes.context if kind == "context" else sizes.candidate
    starts = [0, *itertools.accumulate(fields)]
    parts = torch.split(weight, sizes.embedding) if fields else ()
    terms = [tensors[f"{kind}.{number}"] @ part for number, part in enumerate(parts)]
    # One row even without fields: a kernel's pointer must point at something.
    every = torch.cat(terms) if terms else torch.zeros(1, sizes.layers[0])
    return every, torch.tensor(starts[:-1], dtype=torch.int32)


def _sizes(sizes: PlanSizes) -> Sizes:
    return Sizes(
        slots=sizes.rank,
        heads=sizes.heads,
        short_heads=sizes.short_heads,
        recent=sizes.recent,
        profile=sizes.profile,
        items=sizes.num_items,
        fields=len(sizes.candidate),
        context=len(sizes.context),
        dim=sizes.dim,
        layers=(sizes.layers[0], sizes.layers[1]),
        slope=sizes.slope,
    )
