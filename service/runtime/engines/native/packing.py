"""A plan in the layout that the kernel reads, and the C structures of `service/native/item_slots.h`."""

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.contract.plan import Floats, ItemSlotsPlan

ALIGNMENT = 16
"""Floats: the widest vector."""
Pointer = ctypes.c_void_p


class PlanStructure(ctypes.Structure):
    """`absorb_item_slots_plan`."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in (
            "num_items", "stride", "dim", "num_fields", "heads", "short_heads", "rank", "recent",
            "item_described", "profile_dim", "embedding_dim", "num_context", "num_candidate", "num_layers",
        )),
        ("slope", ctypes.c_float),
        ("out_bias", ctypes.c_float),
        *((name, Pointer) for name in (
            "field_ends", "items", "tau", "short_tau", "context_tables", "context_sizes", "candidate_tables",
            "candidate_sizes", "user", "widths", "weights", "biases", "out", "wide",
        )),
    )  # fmt: skip


class RequestStructure(ctypes.Structure):
    """`absorb_item_slots_request`."""

    _fields_ = (
        ("num_recent", ctypes.c_int32),
        ("num_items", ctypes.c_int32),
        *((name, Pointer) for name in (
            "slot_rows", "slot_sums", "profile", "recent", "context", "items", "fields", "logits", "scratch",
        )),
        ("scratch_floats", ctypes.c_int64),
        ("seconds", Pointer),
    )  # fmt: skip


class ProgressStructure(ctypes.Structure):
    """`absorb_item_slots_progress`."""

    _fields_ = (("taken", ctypes.c_int64), ("finished", ctypes.c_int64))


class PackedPlan:
    """The structure of a plan, and the arrays that it points to.

    Args:
        plan: checked.
        lanes: floats of a vector of the instruction set.
        panel: outputs of a panel of packed weights.
    """

    def __init__(self, plan: ItemSlotsPlan, lanes: int, panel: int) -> None:
        self._held: list[object] = []
        sizes, tensors = plan.sizes, plan.tensors
        items = _item_rows(tensors["vectors"], tensors["described"], tensors["item_bias"])
        layers = range(len(sizes.layers))
        weights = [pack(tensors[f"layer.{n}"], lanes, panel) for n in layers]
        biases = [_padded(tensors[f"layer_bias.{n}"]) for n in layers]
        context = [tensors[f"context.{n}"] for n in range(len(sizes.context))]
        candidate = [tensors[f"candidate.{n}"] for n in range(len(sizes.candidate))]
        self.structure = PlanStructure(
            num_items=sizes.num_items,
            stride=items.shape[1],
            dim=sizes.dim,
            num_fields=len(sizes.widths),
            heads=sizes.heads,
            short_heads=sizes.short_heads,
            rank=sizes.rank,
            recent=sizes.recent,
            item_described=sizes.described,
            profile_dim=sizes.profile,
            embedding_dim=sizes.embedding,
            num_context=len(context),
            num_candidate=len(candidate),
            num_layers=len(layers),
            slope=sizes.slope,
            out_bias=float(tensors["out_bias"][0]),
            field_ends=self._integers(np.cumsum(sizes.widths)),
            items=self._floats(items),
            tau=self._floats(tensors["tau"]),
            short_tau=self._floats(tensors["short_tau"]),
            context_tables=self._tables(context),
            context_sizes=self._integers(sizes.context),
            candidate_tables=self._tables(candidate),
            candidate_sizes=self._integers(sizes.candidate),
            user=self._floats(pack(tensors["user"], lanes, panel)),
            widths=self._integers(sizes.layers),
            weights=self._tables(weights),
            biases=self._tables(biases),
            out=self._floats(tensors["out"]),
            wide=self._floats(tensors["wide"]),
        )

    def _floats(self, values: NDArray[np.float32]) -> int:
        array = np.ascontiguousarray(values, np.float32)
        self._held.append(array)
        return address(array)

    def _integers(self, values: Sequence[int] | NDArray[np.int64]) -> int:
        array = np.ascontiguousarray(values, np.int32)
        self._held.append(array)
        return address(array)

    def _tables(self, tables: Sequence[Floats]) -> int:
        pointers = np.array([self._floats(table) for table in tables], np.uintp)
        self._held.append(pointers)
        return address(pointers)


def address(array: NDArray[np.generic]) -> int:
    """Address of an array's first element; as quick as `ctypes.data` is slow."""
    where: int = array.__array_interface__["data"][0]
    return where


def pack(weight: Floats, lanes: int, panel: int) -> Floats:
    """Weights [out, in] as panels of outputs: in a panel, the outputs of one input lie together.

    The last panel is as wide as needed; zeros pad it to a multiple of `lanes`.
    """
    outputs = -(-len(weight) // lanes) * lanes
    padded = np.zeros((outputs, weight.shape[1]), np.float32)
    padded[: len(weight)] = weight
    panels = [padded[first : first + panel].T.ravel() for first in range(0, outputs, panel)]
    return np.concatenate(panels)


def _item_rows(vectors: Floats, described: Floats, bias: Floats) -> Floats:
    """One row for each item: vector, padded; described; bias. Rows are padded, too, and start at a cache line."""
    dim = vectors.shape[1]
    start = _up(dim)
    stride = _up(start + described.shape[1] + 1)
    raw = np.zeros(len(vectors) * stride + ALIGNMENT, np.float32)
    shift = -(address(raw) // 4) % ALIGNMENT
    rows = raw[shift : shift + len(vectors) * stride].reshape(len(vectors), stride)
    rows[:, :dim] = vectors
    rows[:, start : start + described.shape[1]] = described
    rows[:, start + described.shape[1]] = bias
    return rows


def _padded(bias: Floats) -> Floats:
    return np.pad(bias, (0, _up(len(bias)) - len(bias)))


def _up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
