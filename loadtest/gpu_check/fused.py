"""The fused engine: a plan and two kernels, on fixed buffers, so that a CUDA graph can hold them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.fused_plan import Plan

PROGRAMS = 256
"""As many as keep the multiprocessors of a large GPU busy: keys are split where there would be fewer."""


@dataclass(frozen=True)
class Tiles:
    """How the work is cut.

    Attributes:
        candidates: of one program of the attention.
        keys: of one step of it.
        head: candidates of one program of the head.
        precision: of products: "ieee" is fp32, "tf32x3" as good as that on the matrix units.
        warps: of a program of the attention.
        head_warps: of one of the head, whose weights would otherwise spill.
    """

    candidates: int = 64
    keys: int = 32
    head: int = 16
    precision: Literal["ieee", "tf32x3", "tf32"] = "tf32x3"
    warps: int = 4
    head_warps: int = 8


def fused(plan: Plan, buffers: Buffers, tiles: Tiles | None = None) -> Callable[[], None]:
    """One scoring, into the buffers' logits.

    Args:
        plan: on the buffers' device.
        buffers: of an LREA with hash slots; the states are a slab of which `slot_of` picks each user's.
        tiles: how the work is cut; None: the defaults.

    Raises:
        ValueError: a hidden layer's width is not a power of two of 16 or more.
    """
    from loadtest.gpu_check.fused_kernels import attention_kernel, head_kernel  # Triton: an extra

    tiles = tiles or Tiles()
    shared, attention, head = _sizes(plan, buffers, tiles)
    users, candidates = buffers.logits.shape
    splits, steps = _splits(plan, users, candidates, tiles)
    inputs, device = buffers.inputs, buffers.logits.device
    slot_of = torch.arange(users, dtype=torch.int32, device=device)
    partial = torch.empty(
        splits + 1, plan.heads, users, candidates, shared["D"], dtype=torch.float32, device=device
    )
    asked = (inputs["items"], inputs["recent"])

    def run() -> None:
        grid = (-(-candidates // tiles.candidates), (splits + 1) * plan.heads, users)
        attention_kernel[grid](
            *asked, slot_of, inputs["e_auxabsorb"], inputs["counts"], plan.rows, plan.fold,
            plan.units, partial, candidates, SPLITS=splits, STEPS=steps, **shared,
            **attention, num_warps=tiles.warps,
        )  # fmt: skip
        head_kernel[(-(-candidates // tiles.head), users)](
            *asked, inputs["context_fields"], slot_of, inputs["profile"], inputs["e_auxabsorb"],
            inputs["counts"], inputs["e_comp"], inputs["counted_keys"], partial, plan.rows,
            plan.keys, plan.candidate, plan.profile, plan.mean, plan.context, plan.context_start,
            plan.bias, *plan.hidden, *plan.out, plan.wide, buffers.logits, candidates,
            SPLITS=splits, **shared, **head, num_warps=tiles.head_warps,
        )  # fmt: skip

    return run


def _splits(plan: Plan, users: int, candidates: int, tiles: Tiles) -> tuple[int, int]:
    """Parts into which the slots are split, and steps of each: one or all, for each way is a compilation."""
    steps = -(-plan.rank // tiles.keys)
    programs = users * -(-candidates // tiles.candidates) * plan.heads
    return (1, steps) if programs >= PROGRAMS else (steps, 1)


def _sizes(
    plan: Plan, buffers: Buffers, tiles: Tiles
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Compile-time arguments of both kernels, of the attention alone, of the head alone."""
    width, second = plan.hidden[0].shape
    for name, size in (("first", width), ("second", second)):
        if size < 16 or size & (size - 1):
            raise ValueError(f"mlp: got a {name} layer of {size}, expected 16, 32, 64, …")
    recent, profile = buffers.inputs["recent"].shape[1], plan.profile.shape[0]
    dim = plan.rows.shape[1]
    shared = {
        "R": plan.rank, "N": recent, "D": dim, "DP": _padded(dim), "HEADS": plan.heads,
        "SLOPE": plan.slope, "PRECISION": tiles.precision,
    }  # fmt: skip
    hidden = plan.units.shape[2]
    attention = {"HIDDEN": hidden, "BC": tiles.candidates, "BK": tiles.keys}
    head = {
        "W": plan.width, "WP": _padded(plan.width), "NP": _padded(recent), "P": profile,
        "PP": _padded(profile), "FIELDS": len(plan.context_start), "M": plan.families,
        "W1": width, "W2": second, "BC": tiles.head,
    }  # fmt: skip
    return shared, attention, head


def _padded(size: int) -> int:
    return max(16, 1 << (size - 1).bit_length())
