"""Random plans and slates for the native engine, and the reference that it is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.contract.plan import Floats, ItemSlotsPlan, PlanSizes
from models.contract.plan_reference import Doubles, plan_logits
from service.errors import ScoreError
from service.runtime.engines.engine import EngineSlate, Logits
from service.runtime.engines.native.engine import NativeEngine

LIMIT = 1e-5
"""Largest difference of a probability."""
DEFAULT = PlanSizes(
    num_items=300, widths=(32, 8, 8, 8, 8), described=4, rank=150, heads=4, short_heads=2, recent=32,
    profile=9, embedding=4, context=(26, 9), candidate=(5, 4), layers=(128, 64), slope=0.1,
)  # fmt: skip
"""Sizes of the default model, with fewer slots and items."""
TINY_SIZES = PlanSizes(
    num_items=3, widths=(1,), described=0, rank=1, heads=1, short_heads=1, recent=1, profile=0,
    embedding=3, context=(), candidate=(), layers=(1,), slope=0.3,
)  # fmt: skip


def random_plan(sizes: PlanSizes = DEFAULT, seed: int = 0) -> ItemSlotsPlan:
    """Weights of the usual sizes: logits have a spread of about 1, and every tensor changes them."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Floats] = {}
    for name, shape in sizes.shapes().items():
        fan_in = shape[-1] if name.startswith(("layer.", "user", "out", "wide")) else 4
        scale = (max(fan_in, 1) / 2) ** -0.5
        tensors[name] = (scale * rng.normal(size=shape)).astype(np.float32)
    tensors["tau"] = np.abs(tensors["tau"]) * 8
    tensors["short_tau"] = np.abs(tensors["short_tau"]) * 8
    tensors["vectors"] = _unit_fields(tensors["vectors"], sizes)
    return ItemSlotsPlan(sizes, tensors, "00" * 32)


def _unit_fields(vectors: Floats, sizes: PlanSizes) -> Floats:
    ends = np.cumsum(sizes.widths)
    parts = np.split(vectors, ends[:-1], 1)
    units = np.concatenate(
        [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], 1
    )
    units[:2] = 0  # padding and unknown
    return units.astype(np.float32)


def random_slate(
    sizes: PlanSizes, candidates: int, filled: int, recent: int, seed: int = 0
) -> EngineSlate:
    """A user with `filled` slots, the rest of which are zeros, and a slate with reserved rows among its candidates."""
    rng = np.random.default_rng(seed)
    items = np.zeros(sizes.rank, np.int32)
    sums = np.zeros((sizes.rank, sizes.heads), np.float32)
    items[:filled] = rng.integers(1, sizes.num_items, filled)
    sums[:filled] = rng.exponential(2.0, (filled, sizes.heads))
    fields = [rng.integers(0, size, candidates) for size in sizes.candidate]
    return EngineSlate(
        {
            "slot_items": items,
            "slot_sums": sums,
            "profile": rng.normal(size=sizes.profile).astype(np.float32),
        },
        rng.integers(0, sizes.num_items, recent),
        np.array([rng.integers(0, size) for size in sizes.context], np.int64),
        rng.integers(0, sizes.num_items, candidates),
        np.stack(fields, 1) if fields else np.zeros((candidates, 0), np.int64),
    )


def expected(plan: ItemSlotsPlan, slate: EngineSlate) -> Doubles:
    return plan_logits(plan, slate.state, slate.recent, slate.context, slate.items, slate.fields)


def probabilities(logits: Logits | ScoreError | Doubles) -> Doubles:
    assert not isinstance(logits, ScoreError), logits
    values: Doubles = logits.astype(np.float64)
    assert np.isfinite(values).all()
    return 1 / (1 + np.exp(-values))


def assert_scores(engine: NativeEngine, plan: ItemSlotsPlan, slates: Sequence[EngineSlate]) -> None:
    """The engine's probabilities are those of the reference."""
    results = engine.score_many(slates)
    assert len(results) == len(slates)
    for result, slate in zip(results, slates, strict=True):
        difference = np.abs(probabilities(result) - probabilities(expected(plan, slate)))
        assert len(difference) == len(slate.items)
        assert difference.max(initial=0.0) <= LIMIT


def poison(engine: NativeEngine) -> None:
    """Fill the calling thread's scratch memory with NaN, as if another call had left it."""
    engine._scratch().fill(np.nan)


@dataclass(frozen=True)
class Shape:
    """Numbers of a slate."""

    candidates: int
    filled: int
    recent: int


def with_sizes(**changes: object) -> PlanSizes:
    return replace(DEFAULT, **changes)  # type: ignore[arg-type]
