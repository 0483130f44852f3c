"""The fused engine (a prototype): a plan and two Triton kernels on fixed buffers, for capture as a CUDA graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.fused_kernels import attention_kernel, head_kernel
from loadtest.gpu_check.fused_plan import Plan

MIN_PROGRAMS = 256
"""Programs that keep the multiprocessors of a large GPU busy. The slots are split where there would be fewer."""
MIN_DOT = 16
"""Smallest side of a matrix product in Triton."""
CompileTime = dict[str, Any]


@dataclass(frozen=True)
class Tiles:
    """How the work is divided into programs.

    Attributes:
        candidates: candidates of one program of the attention kernel.
        keys: keys of one step of such a program.
        head: candidates of one program of the head kernel.
        precision: precision of products. "ieee" is fp32; "tf32x3" is about as exact, on the matrix units.
        warps: warps of a program of the attention kernel.
        head_warps: warps of a program of the head kernel; with fewer, its weights spill from the registers.
    """

    candidates: int = 64
    keys: int = 32
    head: int = 16
    precision: Literal["ieee", "tf32x3", "tf32"] = "tf32x3"
    warps: int = 4
    head_warps: int = 8


def fused(plan: Plan, buffers: Buffers, tiles: Tiles | None = None) -> Callable[[], None]:
    """A call that scores once, into the buffers' logits. Without Triton the call raises ModuleNotFoundError.

    Args:
        plan: on the buffers' device.
        buffers: inputs and logits of an LREA with hash slots. The states form a slab; `slot_of` gives each user's row.
        tiles: how the work is divided; None: the defaults.

    Raises:
        ValueError: a hidden layer's width is not a power of two of at least 16.
    """
    tiles = tiles or Tiles()
    shared, attention, head = _compile_time(plan, buffers, tiles)
    users, candidates = buffers.logits.shape
    splits, steps = _splits(plan, users, candidates, tiles)
    inputs, device = buffers.inputs, buffers.logits.device
    slot_of = torch.arange(users, dtype=torch.int32, device=device)
    shape = (splits + 1, plan.heads, users, candidates, shared["D"])
    partial = torch.empty(shape, dtype=torch.float32, device=device)
    items, recent = inputs["items"], inputs["recent"]
    sums, counts = inputs["e_auxabsorb"], inputs["counts"]
    attention_inputs = (items, recent, slot_of, sums, counts)
    attention_plan = (plan.rows, plan.fold, plan.units, partial, candidates)
    attention_sizes = {"SPLITS": splits, "STEPS": steps, **shared, **attention}
    context, state = inputs["context_fields"], inputs["profile"]
    tables = (inputs["e_comp"], inputs["counted_keys"])
    head_inputs = (items, recent, context, slot_of, state, sums, counts, *tables, partial)
    first_layer = (plan.candidate, plan.profile, plan.mean, plan.context, plan.context_start)
    layers = (*first_layer, plan.bias, *plan.hidden, *plan.out, plan.wide)
    head_plan = (plan.rows, plan.keys, *layers, buffers.logits, candidates)
    head_sizes = {"SPLITS": splits, **shared, **head}
    attention_grid = (-(-candidates // tiles.candidates), (splits + 1) * plan.heads, users)
    head_grid = (-(-candidates // tiles.head), users)

    def run() -> None:
        attention_kernel[attention_grid](
            *attention_inputs, *attention_plan, **attention_sizes, num_warps=tiles.warps
        )
        head_kernel[head_grid](*head_inputs, *head_plan, **head_sizes, num_warps=tiles.head_warps)

    return run


def _splits(plan: Plan, users: int, candidates: int, tiles: Tiles) -> tuple[int, int]:
    """Number of parts of the slots, and steps of each part.

    Either one part or one for each step: every other division would be one more compilation.
    """
    steps = -(-plan.rank // tiles.keys)
    programs = users * -(-candidates // tiles.candidates) * plan.heads
    return (1, steps) if programs >= MIN_PROGRAMS else (steps, 1)


def _compile_time(
    plan: Plan, buffers: Buffers, tiles: Tiles
) -> tuple[CompileTime, CompileTime, CompileTime]:
    """Compile-time arguments of both kernels, of the attention kernel alone, of the head kernel alone."""
    first, second = plan.hidden[0].shape
    for name, width in (("first", first), ("second", second)):
        if width < MIN_DOT or width & (width - 1):
            raise ValueError(f"mlp: got a {name} layer of {width}, expected 16, 32, 64, …")
    recent, profile = buffers.inputs["recent"].shape[1], plan.profile.shape[0]
    dim = plan.rows.shape[1]
    shared = {
        "R": plan.rank,
        "N": recent,
        "D": dim,
        "DP": _padded(dim),
        "HEADS": plan.heads,
        "SLOPE": plan.slope,
        "PRECISION": tiles.precision,
    }
    attention = {"HIDDEN": plan.units.shape[2], "BC": tiles.candidates, "BK": tiles.keys}
    head = {
        "W": plan.width,
        "WP": _padded(plan.width),
        "NP": _padded(recent),
        "P": profile,
        "PP": _padded(profile),
        "FIELDS": len(plan.context_start),
        "M": plan.families,
        "W1": first,
        "W2": second,
        "BC": tiles.head,
    }
    return shared, attention, head


def _padded(size: int) -> int:
    return max(MIN_DOT, 1 << (size - 1).bit_length())
