"""The models that `absorb bench` times, and their inputs: those of the default recipe, with random values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from builder.experiments.bench.graph_timing import Contender, make_contender
from models.base import CtrModel
from models.contract.schema import FIRST_KNOWN, FeatureSchema, Field
from models.registry import build_model

DEFAULT = "LREA, item slots, r = 1,024 (default)"
CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    DEFAULT: ("lrea", {"slots": "items", "rank": 1_024, "activity": 4}),
    "LREA, content slots, r = 64": ("lrea", {"slots": "content", "rank": 64}),
    "exact counts only": ("din", {"long": False, "counts": "exact"}),
    "SIM hard": ("sim", {"search": "hard"}),
    "ETA": ("eta", {}),
    "TWIN": ("twin", {}),
    "DIN, kernel": ("din", {"score": "kernel"}),
    "DIN, kernel and exact counts": ("din", {"score": "kernel", "counts": "exact"}),
    "no long history": ("din", {"long": False}),
}
"""Label -> model of the registry and its options."""
IN_ONE_RUN = (DEFAULT, "LREA, content slots, r = 64", "no long history")
"""Models whose score graph does not grow with L: they score the whole slate in one run, as the service does."""
HIDDEN_BYTES = 4 * 32
"""Of activations for each candidate and event of a model that is linear in L."""
RECENT = 32
ITEMS = 62_504
ITEM_FIELDS = {
    "product_type": 2_186,
    "product_category": 304,
    "department": 32,
    "maker": 4_912,
    "popularity": 16,
}
USER_FIELDS = {
    "age": 8,
    "income": 14,
    "home_ownership": 6,
    "marital_status": 4,
    "household_size": 7,
    "household_comp": 6,
    "kids_count": 6,
}
CONTEXT_FIELDS = {"hour": 26, "weekday": 9}
CANDIDATE_FIELDS = {"display": 12, "mailer": 12}


def bench_schema(length: int, items: int = ITEMS) -> FeatureSchema:
    """The schema of all timed models: that of `recipes/promotions.toml`, with another history length."""
    item, user, context, candidate = (
        tuple(Field(name, size) for name, size in sizes.items())
        for sizes in ({"item": items, **ITEM_FIELDS}, USER_FIELDS, CONTEXT_FIELDS, CANDIDATE_FIELDS)
    )
    return FeatureSchema(item, user, context, items, length, RECENT, candidate)


def build_contender(label: str, length: int, items: int = ITEMS) -> Contender:
    """Export a model with random weights."""
    name, options = CONTENDERS[label]
    schema = bench_schema(length, items)
    candidate_bytes = None if label in IN_ONE_RUN else HIDDEN_BYTES * length
    return make_contender(label, random_model(name, schema, options), schema, candidate_bytes)


def random_model(name: str, schema: FeatureSchema, config: Mapping[str, Any]) -> CtrModel:
    """A model with random weights and a random catalogue, ready to serve."""
    rng, rows = np.random.default_rng(0), schema.num_items
    columns = [rng.integers(FIRST_KNOWN, field.size, rows) for field in schema.item_fields]
    columns[0] = np.arange(rows)
    return build_model(name, schema, torch.from_numpy(np.stack(columns, 1)), config).eval()
