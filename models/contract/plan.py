"""The plan of an artifact: the score graph's weights, laid out for engines that do not run ONNX.

`plan.safetensors` holds float32 tensors, and in its metadata

    format          "1"
    kind            "item-slots-kernel": LREA with item slots that the kernel scores, and no counts
    sizes           `PlanSizes` as JSON
    score_sha256    hash of the score graph that the plan stands for

With e_i the vector of catalogue row i, whose F fields have length 1 or 0:

    w_h(t, i) = n_hi · exp(Σ_f tau_hf (cos_f(t, i) − 1))           n = 1 for the latest items, with short_tau
    mass_h    = Σ_i w_h,    pooled_h = Σ_i w_h e_i / (1 + mass_h)
    user      = profile ⊕ context embeddings
    candidate = e_t ⊕ pooled ⊕ e_t ⊙ pooled ⊕ described ⊕ candidate-field embeddings ⊕ asinh(mass)
    logit     = bias_t + out · MLP(user ⊕ candidate) + wide · asinh(mass)

Heads of the slots come before those of the latest items. `plan_reference.py` computes this in numpy.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.contract.errors import ArtifactError, shown
from models.contract.schema import FeatureSchema
from models.contract.state_spec import StateSpec, TensorSpec
from models.contract.strict_json import read_json

PLAN = "plan.safetensors"
FORMAT = "1"
KIND = "item-slots-kernel"
LARGEST = 1 << 28
"""Largest size that is read."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PlanSizes:
    """Sizes of the model.

    Attributes:
        num_items: V, rows of the catalogue.
        widths: width of each field of an item's vector; D is their sum.
        described: width of what else the catalogue says of an item: embeddings of fields by which nothing is matched.
        rank: r, slots of a state.
        heads: H, heads of the attention to slots.
        short_heads: heads of the attention to the latest items.
        recent: N, number of latest items.
        profile: width of the state's profile.
        embedding: width of the embedding of each context and candidate field.
        context: number of ids of each context field.
        candidate: number of ids of each candidate field.
        layers: widths of the hidden layers.
        slope: slope of Leaky ReLU below zero.
    """

    num_items: int
    widths: tuple[int, ...]
    described: int
    rank: int
    heads: int
    short_heads: int
    recent: int
    profile: int
    embedding: int
    context: tuple[int, ...]
    candidate: tuple[int, ...]
    layers: tuple[int, ...]
    slope: float

    @property
    def dim(self) -> int:
        """D."""
        return sum(self.widths)

    @property
    def groups(self) -> int:
        """G, masses and pooled vectors of a candidate."""
        return self.heads + self.short_heads

    @property
    def user_inputs(self) -> int:
        """Width of the head's input that all candidates share."""
        return self.profile + len(self.context) * self.embedding

    @property
    def candidate_inputs(self) -> int:
        """Width of a candidate's own input of the head."""
        fields = self.described + len(self.candidate) * self.embedding
        return self.dim * (1 + 2 * self.groups) + fields + self.groups

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor of the plan."""
        shapes: dict[str, tuple[int, ...]] = {
            "vectors": (self.num_items, self.dim),
            "described": (self.num_items, self.described),
            "item_bias": (self.num_items,),
            "tau": (self.heads, len(self.widths)),
            "short_tau": (self.short_heads, len(self.widths)),
            "user": (self.layers[0], self.user_inputs),
            "wide": (self.groups,),
            "out": (self.layers[-1],),
            "out_bias": (1,),
        }
        shapes |= {f"context.{f}": (n, self.embedding) for f, n in enumerate(self.context)}
        shapes |= {f"candidate.{f}": (n, self.embedding) for f, n in enumerate(self.candidate)}
        inputs = (self.candidate_inputs, *self.layers)
        for layer, width in enumerate(self.layers):
            shapes |= {
                f"layer.{layer}": (width, inputs[layer]),
                f"layer_bias.{layer}": (width,),
            }
        return shapes


@dataclass(frozen=True)
class ItemSlotsPlan:
    """A plan of the kind "item-slots-kernel".

    Attributes:
        sizes: of the model.
        tensors: name -> values; names and shapes are `sizes.shapes()`, all values are finite.
        score_sha256: hash of the score graph that it stands for.
    """

    sizes: PlanSizes
    tensors: Mapping[str, Floats]
    score_sha256: str

    def check(self, schema: FeatureSchema, spec: StateSpec, score_sha256: str) -> None:
        """Compare with the artifact that holds it.

        Raises:
            ArtifactError: the plan stands for another score graph, or has other sizes.
        """
        if self.score_sha256 != score_sha256:
            raise ArtifactError(
                f"plan: score_sha256: got {shown(self.score_sha256)}, expected {score_sha256}, "
                "that of the artifact's score graph"
            )
        sizes = self.sizes
        _require_equal("num_items", sizes.num_items, schema.num_items)
        _require_equal("recent", sizes.recent, schema.recent_length)
        _require_equal("context", sizes.context, tuple(f.size for f in schema.context_fields))
        _require_equal("candidate", sizes.candidate, tuple(f.size for f in schema.candidate_fields))
        _require_equal("state", spec, state_spec_of(sizes))


def state_spec_of(sizes: PlanSizes) -> StateSpec:
    """The state that a plan's engine reads."""
    return (
        TensorSpec("profile", (sizes.profile,)),
        TensorSpec("slot_items", (sizes.rank,), "int32", filled="first"),
        TensorSpec("slot_sums", (sizes.rank, sizes.heads), filled="first"),
    )


def plan_to_bytes(plan: ItemSlotsPlan) -> bytes:
    """The file's content.

    Raises:
        ArtifactError: tensors do not fit the sizes, or are not finite.
    """
    _check_tensors(plan.sizes, plan.tensors)
    metadata = {
        "format": FORMAT,
        "kind": KIND,
        "sizes": json.dumps(asdict(plan.sizes)),
        "score_sha256": plan.score_sha256,
    }
    return save({name: np.ascontiguousarray(v) for name, v in plan.tensors.items()}, metadata)


def plan_from_bytes(raw: bytes) -> ItemSlotsPlan:
    """Inverse of `plan_to_bytes`.

    Raises:
        ArtifactError: the bytes are torn, of another format or kind, or tensors do not fit the sizes or are not finite.
    """
    try:
        tensors = load(raw)
        header = read_json(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        metadata = header.get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"plan: not a safetensors file: {error}") from error
    for key, expected in (("format", FORMAT), ("kind", KIND)):
        _require_equal(key, metadata.get(key), expected)
    sizes = _sizes(metadata.get("sizes", "null"))
    _check_tensors(sizes, tensors)
    return ItemSlotsPlan(sizes, tensors, metadata.get("score_sha256", ""))


def _sizes(text: str) -> PlanSizes:
    try:
        values = read_json(text.encode())
        if not isinstance(values, dict) or values.keys() != {f.name for f in fields(PlanSizes)}:
            raise ValueError(f"got {shown(values)}, expected all of PlanSizes and nothing else")
        return PlanSizes(**{name: _size(name, value) for name, value in values.items()})
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"plan: sizes: {error}") from error


AT_LEAST_ONE = ("num_items", "rank", "heads", "short_heads", "recent")
LISTS_OF_SIZES = ("widths", "context", "candidate", "layers")


def _size(name: str, value: Any) -> Any:
    """Check one value of the sizes.

    Raises:
        ValueError: it is of another type or out of range.
    """
    if name == "slope":
        if not isinstance(value, float) or not np.isfinite(value):
            raise ValueError(f"slope: got {shown(value)}, expected a finite number")
        return value
    least = 1 if name in (*AT_LEAST_ONE, *LISTS_OF_SIZES) else 0
    sizes = value if name in LISTS_OF_SIZES else [value]
    is_empty = name in ("widths", "layers") and not sizes
    if is_empty or not isinstance(sizes, list) or not all(_is_size(n, least) for n in sizes):
        raise ValueError(f"{name}: got {shown(value)}, expected sizes from {least} to {LARGEST}")
    return tuple(sizes) if name in LISTS_OF_SIZES else value


def _is_size(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= LARGEST


def _check_tensors(sizes: PlanSizes, tensors: Mapping[str, NDArray[Any]]) -> None:
    shapes = sizes.shapes()
    _require_equal("tensors", sorted(tensors), sorted(shapes))
    for name, shape in shapes.items():
        values = tensors[name]
        if values.shape != shape or values.dtype != np.float32:
            raise ArtifactError(
                f"plan: {name}: got {values.dtype} {values.shape}, expected float32 {shape}"
            )
        if not np.isfinite(values).all():
            raise ArtifactError(f"plan: {name}: got a value that is not finite")


def _require_equal(name: str, got: object, expected: object) -> None:
    if got != expected:
        raise ArtifactError(f"plan: {name}: got {shown(got)}, expected {shown(expected)}")
