"""Random models of item slots, their weights for the engine, and slates for them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from builder.export.plan import plan_of
from models.batch import Context, Slate
from models.contract.schema import FeatureSchema, Field
from models.registry import build_model
from service.runtime.engines.engine import EngineSlate
from service.runtime.engines.torch.fold import fold
from service.runtime.engines.torch.weights import Sizes, Weights
from tests.cases import item_fields


def weights_of(model: Any) -> tuple[Weights, Sizes]:
    plan = plan_of(model, b"")
    assert plan is not None
    return fold(plan)


@dataclass(frozen=True)
class Shape:
    slots: int = 24
    heads: int = 3
    recent: int = 5
    item_dim: int = 12
    field_dim: int = 4
    fields: int = 2
    context: int = 2
    users: int = 2
    activity: int = 2
    mlp: tuple[int, int] = (24, 16)
    unmatched: bool = False


def schema_of(shape: Shape) -> FeatureSchema:
    names = ["item", "brand", "popularity" if shape.unmatched else "category"]
    return FeatureSchema(
        item_fields=tuple(Field(n, s) for n, s in zip(names, (60, 9, 5), strict=True)),
        user_fields=tuple(Field(f"u{n}", 6) for n in range(shape.users)),
        context_fields=tuple(Field(f"c{n}", 5 + n) for n in range(shape.context)),
        num_items=60,
        history_length=max(40, shape.slots),
        recent_length=shape.recent,
        candidate_fields=tuple(Field(f"f{n}", 4 + n) for n in range(shape.fields)),
    )


def random_model(shape: Shape, seed: int = 0) -> Any:
    """A model whose weights are all random: nothing is zero that could hide a mistake."""
    schema = schema_of(shape)
    torch.manual_seed(seed)
    config = {
        "rank": shape.slots,
        "slots": "items",
        "heads": shape.heads,
        "item_dim": shape.item_dim,
        "field_dim": shape.field_dim,
        "activity": shape.activity,
        "mlp": list(shape.mlp),
    }
    model = build_model("lrea", schema, item_fields(schema), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() < 2 or "wide" in name or "out" in name or "bias" in name:
                weight.normal_(std=0.3)
    return model.eval().requires_grad_(False)


def random_state(model: Any, filled: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """A state with `filled` slots, the largest sum first, as `encode` writes it."""
    spec = {tensor.name: tensor.shape for tensor in model.state_spec()}
    rows = np.zeros(spec["slot_items"], np.int32)
    sums = np.zeros(spec["slot_sums"], np.float32)
    rows[:filled] = 1 + rng.permutation(59)[:filled]
    sums[:filled] = np.sort(rng.exponential(3, (filled, sums.shape[1])), 0)[::-1]
    profile = rng.normal(size=spec["profile"]).astype(np.float32)
    return {"profile": profile, "slot_items": rows, "slot_sums": sums}


def random_slate(
    model: Any, filled: int, candidates: int, rng: np.random.Generator, num_recent: int = 3
) -> EngineSlate:
    schema = model.schema
    sizes = [field.size for field in schema.candidate_fields]
    return EngineSlate(
        random_state(model, filled, rng),
        rng.integers(1, 60, num_recent),
        rng.integers(1, [field.size for field in schema.context_fields], dtype=np.int64)
        if schema.context_fields
        else np.zeros(0, np.int64),
        rng.integers(0, 60, candidates),
        rng.integers(1, sizes, (candidates, len(sizes))),
    )


def expected(model: Any, slate: EngineSlate) -> NDArray[np.float32]:
    """Logits by the model in torch."""
    schema = model.schema
    recent = np.zeros(schema.recent_length, np.int64)
    latest = slate.recent[max(len(slate.recent) - len(recent), 0) :]
    recent[len(recent) - len(latest) :] = latest
    state = {name: torch.from_numpy(np.array(values))[None] for name, values in slate.state.items()}
    context = Context(torch.from_numpy(recent)[None], torch.from_numpy(slate.context)[None])
    items, fields = (torch.from_numpy(ids)[None] for ids in (slate.items, slate.fields))
    given = Slate(items, fields) if slate.fields.shape[1] else Slate.of(items)
    logits: NDArray[np.float32] = model.score(state, context, given)[0].numpy()
    return logits
