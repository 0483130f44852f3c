"""One size of the benchmark: the models in it, and their timings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from builder.experiments.bench.graph_timing import Contender, make_contender, time_in_turn
from models.base import CtrModel
from models.contract.schema import FIRST_KNOWN, FeatureSchema, Field
from models.registry import build_model

CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "LREA, position slots": ("lrea", {"slots": "position"}),
    "LREA, hash slots": ("lrea", {"slots": "hash"}),
    "LREA, content slots": ("lrea", {"slots": "content"}),
    "LREA, hash and content slots": ("lrea", {"slots": "hybrid"}),
    "DIN": ("din", {}),
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
LINEAR = ("DIN", "SIM hard", "SIM soft", "ETA", "TWIN")
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
        block: candidates per run.
        rounds: runs over the whole slate that were timed.
        median_ms: to score the slate of one user.
        p10_ms: of the rounds.
        p90_ms: of the rounds.
        encode_ms: median, to encode that user's history.
        state_bytes: of the user's record in the cache, fp32.
    """

    model: str
    size: Size
    threads: int
    block: int
    rounds: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    encode_ms: float
    state_bytes: int


def build_contender(label: str, size: Size) -> Contender:
    """Export a model with random weights."""
    name, options = CONTENDERS[label]
    schema = bench_schema(size.length)
    field_dim = size.dim // 4
    config = {"item_dim": size.dim - 2 * field_dim, "field_dim": field_dim, "hidden": HIDDEN}
    config |= options | ({"rank": size.rank} if name == "lrea" else {})
    if options.get("slots") == "hybrid":
        config["content_slots"] = size.rank // 4
    candidate_bytes = 4 * size.length * HIDDEN if label in LINEAR else None
    return make_contender(label, random_model(name, schema, config), schema, candidate_bytes)


def random_model(name: str, schema: FeatureSchema, config: Mapping[str, Any]) -> CtrModel:
    """With random weights and a random catalogue, ready to serve."""
    rng = np.random.default_rng(0)
    columns = [rng.integers(FIRST_KNOWN, field.size, NUM_ITEMS) for field in schema.item_fields]
    columns[0] = np.arange(NUM_ITEMS)
    return build_model(name, schema, torch.from_numpy(np.stack(columns, 1)), config).eval()


def time_together(
    contenders: Sequence[Contender], size: Size, threads: int, budget_s: float
) -> Iterator[Timing]:
    """Time all in turn (see `time_in_turn`)."""
    laps = time_in_turn(contenders, size.candidates, threads, budget_s)
    for contender, lap in zip(contenders, laps, strict=True):
        yield Timing(contender.label, size, threads, **asdict(lap))


def bench_schema(length: int) -> FeatureSchema:
    """Of every model that is timed."""
    return FeatureSchema(
        item_fields=(Field("item", NUM_ITEMS), Field("category", 64), Field("popularity", 16)),
        user_fields=(Field("age", 8),),
        context_fields=(Field("hour", 26),),
        num_items=NUM_ITEMS,
        history_length=length,
        recent_length=RECENT,
    )
