"""Random models of item slots, their weights for the engine, and slates for them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.batch import Context, Slate
from models.contract.schema import FeatureSchema, Field
from models.registry import build_model
from service.runtime.engines.engine import EngineSlate
from service.runtime.engines.torch.weights import Sizes, Weights
from tests.cases import item_fields


def weights_of(model: Any) -> tuple[Weights, Sizes]:
    frame: Any = model.get_submodule("frame")
    reader: Any = model.get_submodule("readers.0")
    schema: FeatureSchema = model.schema
    head, items = frame.head, frame.items
    with torch.no_grad():
        vectors = items(torch.arange(schema.num_items))
        tau = [reader.score.kernel.tau(), frame.short.tau()]
        spread = frame.short.spread
        d, g = items.dim, sum(len(part) for part in tau)
        target, pooled, products, described, masses = torch.split(
            head.candidate.T, [d, g * d, g * d, frame.described.dim, g]
        )
        terms = [
            table.weight @ weight
            for table, weight in zip(frame.described.tables, described.split(4), strict=False)
        ]
        unmatched = len(items.layout.unmatched)
        item_terms = vectors @ target
        ids = items.item_fields
        for column, term in zip(items.layout.unmatched, terms, strict=False):
            item_terms = item_terms + term[ids[:, column]]
        profile, context = torch.split(head.user.T, [frame.profile_dim, frame.context.dim])
        contexts = [
            table.weight @ weight
            for table, weight in zip(frame.context.tables, context.split(4), strict=False)
        ]
        (hidden,) = head.hidden
        weights = Weights(
            vectors=vectors,
            item_terms=item_terms,
            item_bias=frame.bias.weight[ids[:, 0], 0],
            tau=torch.cat(tau) @ spread,
            tau_sum=torch.cat(tau).sum(1),
            profile=profile,
            bias=head.bias,
            context_terms=torch.cat([torch.zeros(0, len(head.bias)), *contexts]),
            context_starts=_starts(contexts),
            field_terms=torch.cat([torch.zeros(0, len(head.bias)), *terms[unmatched:]]),
            field_starts=_starts(terms[unmatched:]),
            pooled=pooled.view(g, d, -1),
            products=products.view(g, d, -1),
            masses=masses,
            wide=frame.wide.weight[0],
            hidden=hidden.weight.T,
            hidden_bias=hidden.bias,
            out=head.out.weight[0],
            out_bias=head.out.bias,
        )
    sizes = Sizes(
        slots=reader.rank,
        heads=reader.heads,
        short_heads=len(tau[1]),
        recent=schema.recent_length,
        profile=frame.profile_dim,
        items=schema.num_items,
        fields=len(schema.candidate_fields),
        context=len(schema.context_fields),
        slope=head.activation.negative_slope,
    )
    return weights, sizes


def _starts(terms: list[Tensor]) -> Tensor:
    return torch.tensor(np.cumsum([0, *map(len, terms)])[:-1].copy(), dtype=torch.int32)


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
