"""Logits of a plan in numpy, in double precision: what every engine of the plan computes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.plan import ItemSlotsPlan
from models.contract.schema import PADDING

TINY = 1e-9
"""Least sum of a slot, as in the graph."""
Doubles = NDArray[np.float64]
Ids = NDArray[np.integer[Any]]


def plan_logits(
    plan: ItemSlotsPlan,
    state: Mapping[str, NDArray[Any]],
    recent: Ids,
    context: Ids,
    items: Ids,
    fields: Ids,
) -> Doubles:
    """Score one user's candidates.

    Args:
        plan: of the model.
        state: the user's tensors, without a batch axis.
        recent: catalogue rows of the latest items, newest last; the last N count.
        context: ids of the context fields.
        items: catalogue rows of the candidates, [C].
        fields: ids of the candidate fields, [C, num candidate fields].

    Returns:
        Logits, [C].

    Raises:
        IndexError: an id is too large.
    """
    sizes, tensors = plan.sizes, plan.tensors
    target = tensors["vectors"][items].astype(np.float64)
    latest = recent[max(len(recent) - sizes.recent, 0) :]
    latest = latest[latest != PADDING]
    is_filled = state["slot_items"] != PADDING
    rows, sums = state["slot_items"][is_filled], state["slot_sums"][is_filled]
    reads = [
        _attend(plan, "tau", target, rows, np.maximum(sums.astype(np.float64), TINY)),
        _attend(plan, "short_tau", target, latest, np.ones((len(latest), sizes.short_heads))),
    ]
    masses = np.arcsinh(np.concatenate([mass for mass, _ in reads], 1))  # (C, G)
    pooled = np.concatenate([pooled for _, pooled in reads], 1)  # (C, G, D)
    products = pooled * target[:, None]
    described = [tensors["described"][items]]
    described += [tensors[f"candidate.{f}"][fields[:, f]] for f in range(len(sizes.candidate))]
    flat = [part.reshape(len(items), -1) for part in (target, pooled, products)]
    x = np.concatenate([*flat, *described, masses], 1)
    embedded = [tensors[f"context.{f}"][context[f]] for f in range(len(sizes.context))]
    user = np.concatenate([state["profile"], *embedded]).astype(np.float64)
    logits: Doubles = _mlp(plan, x, tensors["user"] @ user) + masses @ tensors["wide"]
    return logits + tensors["item_bias"][items]


def _attend(
    plan: ItemSlotsPlan, tau_name: str, target: Doubles, rows: Ids, sums: Doubles
) -> tuple[Doubles, Doubles]:
    """Masses, [C, H], and pooled vectors, [C, H, D], of attention to catalogue rows with their sums, [r, H]."""
    tau = plan.tensors[tau_name].astype(np.float64)
    vectors = plan.tensors["vectors"][rows].astype(np.float64)
    scale = np.repeat(tau, plan.sizes.widths, 1)  # (H, D)
    exponent = np.einsum("cd,hd,rd->chr", target, scale, vectors, optimize=True)
    weight = np.exp(exponent - tau.sum(1)[:, None]) * sums.T
    mass = weight.sum(2)
    return mass, weight @ vectors / (1 + mass)[..., None]


def _mlp(plan: ItemSlotsPlan, x: Doubles, shared: Doubles) -> Doubles:
    """The hidden layers and the last one; `shared` is the user's part of the first."""
    for layer in range(len(plan.sizes.layers)):
        x = x @ plan.tensors[f"layer.{layer}"].T + plan.tensors[f"layer_bias.{layer}"]
        x = x + shared if layer == 0 else x
        x = np.where(x > 0, x, plan.sizes.slope * x)
    return x @ plan.tensors["out"] + plan.tensors["out_bias"]
