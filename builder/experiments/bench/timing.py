"""One size of the benchmark: the models in it, and their timings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from builder.experiments.bench.graph_timing import (
    Contender,
    GraphTimes,
    make_contender,
    time_in_turn,
)
from models.base import CtrModel
from models.contract.schema import FIRST_KNOWN, FeatureSchema, Field
from models.registry import build_model, model_entry

CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "LREA, position slots": ("lrea", {"slots": "position"}),
    "LREA, hash slots": ("lrea", {"slots": "hash"}),
    "LREA, content slots": ("lrea", {"slots": "content"}),
    "LREA, content slots and item table": ("lrea", {"slots": "content", "counts": "table"}),
    "DIN": ("din", {}),
    "DIN by kernel": ("din", {"score": "kernel"}),
    "exact counts only": ("din", {"long": False, "counts": "exact"}),
    "SIM hard": ("sim", {"search": "hard"}),
    "SIM soft": ("sim", {"search": "soft"}),
    "ETA": ("eta", {}),
    "TWIN": ("twin", {}),
    "SDIM": ("sdim", {}),
    "SUAN": ("suan", {}),
    "LightSUAN": ("light_suan", {"window": 32, "stride": 32}),
    "linear attention": ("linear_attention", {}),
    "mean pooling": ("mean_pool", {}),
    "no long history": ("din", {"long": False}),
}
"""Label -> model of the registry and its options."""
LINEAR = ("DIN", "DIN by kernel", "SIM hard", "SIM soft", "ETA", "TWIN")
"""Linear in L: [candidates, L] tensors, which blocks of candidates keep in the processor's cache."""
NUM_ITEMS = 4_000
RECENT = 32
HIDDEN = 32


@dataclass(frozen=True)
class Size:
    """L, C (candidates; B in the paper), r, d."""

    length: int
    candidates: int
    rank: int
    dim: int


@dataclass(frozen=True)
class Timing:
    """One model at one size.

    Attributes:
        model: label.
        size: of the case.
        threads: of the runtime.
        times: of its graphs.
    """

    model: str
    size: Size
    threads: int
    times: GraphTimes

    def to_dict(self) -> dict[str, Any]:
        """In JSON types, the times beside the other keys."""
        size = asdict(self.size)
        return {"model": self.model, "size": size, "threads": self.threads, **asdict(self.times)}


def build_contender(label: str, size: Size) -> Contender:
    """Export a model with random weights."""
    name, options = CONTENDERS[label]
    schema = bench_schema(size.length)
    field_dim = size.dim // 4
    sizes = {"item_dim": size.dim - field_dim, "field_dim": field_dim, "hidden": HIDDEN}
    known = {field.name for field in fields(model_entry(name).config)}
    config = {key: value for key, value in sizes.items() if key in known}
    config |= options | ({"rank": size.rank} if name == "lrea" else {})
    candidate_bytes = 4 * size.length * HIDDEN if label in LINEAR else None
    return make_contender(label, random_model(name, schema, config), schema, candidate_bytes)


def random_model(name: str, schema: FeatureSchema, config: Mapping[str, Any]) -> CtrModel:
    """A model with random weights and a random catalogue, ready to serve."""
    rng = np.random.default_rng(0)
    columns = [rng.integers(FIRST_KNOWN, field.size, NUM_ITEMS) for field in schema.item_fields]
    columns[0] = np.arange(NUM_ITEMS)
    return build_model(name, schema, torch.from_numpy(np.stack(columns, 1)), config).eval()


def time_together(
    contenders: Sequence[Contender], size: Size, threads: int, budget_s: float
) -> Iterator[Timing]:
    """Time all contenders in turn (see `time_in_turn`)."""
    all_times = time_in_turn(contenders, size.candidates, threads, budget_s)
    for contender, times in zip(contenders, all_times, strict=True):
        yield Timing(contender.label, size, threads, times)


def bench_schema(length: int) -> FeatureSchema:
    """The schema of all timed models."""
    return FeatureSchema(
        item_fields=(Field("item", NUM_ITEMS), Field("category", 64), Field("popularity", 16)),
        user_fields=(Field("age", 8),),
        context_fields=(Field("hour", 26),),
        num_items=NUM_ITEMS,
        history_length=length,
        recent_length=RECENT,
    )
