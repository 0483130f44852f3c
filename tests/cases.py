"""The models that the generic tests build: every model of the registry, in each configuration of a literal table.

A new model in the registry is tested with its defaults; a line here adds its other configurations.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from models.batch import Batch, Context, Slate, User
from models.contract.age import NUM_AGES
from models.contract.schema import FIRST_KNOWN, FeatureSchema, Field
from models.registry import MODELS

SIZES: dict[str, Any] = {
    "item_dim": 8,
    "field_dim": 4,
    "hidden": 16,
    "key_dim": 6,
    "heads": 2,
    "mlp": [32, 16],
}
"""Sizes of sequence models."""
FIELD_SIZES: dict[str, Any] = {
    "dim": 8,
    "embedding_std": 0.3,
    "widths": [16, 8],
    "first_widths": [16, 8],
    "second_widths": [16, 12],
    "gate_widths": [8],
    "layers": 2,
    "compressed": 4,
    "projected": 3,
    "fmb_widths": [8],
    "head": [8],
}
"""Sizes of field models; each takes those that its config has."""
CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "lrea": {
        "content": {"rank": 8},
        "table": {"rank": 8, "counts": "table", "cells": 2, "table_size": 8},
        "cluster": {"rank": 4, "slots": "cluster", "counts": "sketch", "cells": 4},
        "hash": {"rank": 8, "slots": "hash"},
        "items": {"rank": 16, "slots": "items"},
        "counted": {"rank": 16, "slots": "items", "counts": "slots"},
        "phi": {"rank": 16, "slots": "items", "counts": "slots", "score": "phi"},
        "activity": {"rank": 16, "slots": "items", "activity": 3},
        "features": {"rank": 16, "slots": "features"},
        "position": {"rank": 8, "slots": "position"},
        "paper": {
            "rank": 8,
            "slots": "position",
            "graph": "decompressed",
            "init": "gaussian",
            "nonneg": 0.01,
        },
    },
    "din": {
        "long": {},
        "kernel": {"score": "kernel", "embedding_dropout": 0.0},
        "short": {"long": False},
        "counts": {"long": False, "counts": "exact"},
        "both": {"counts": "exact"},
    },
    "sim": {"hard": {"search": "hard", "k": 3}, "soft": {"search": "soft", "k": 3}},
    "eta": {"default": {"k": 3, "num_bits": 20}},
    "sdim": {"default": {"num_bits": 12, "tau": 2}},
    "twin": {"default": {"k": 3}},
    "suan": {"dense": {}, "released": {"norm": "released", "gate": "mean"}, "short": {"length": 6}},
    "light_suan": {
        "sparse": {"window": 3, "stride": 3, "target_stride": 0},
        "taught": {
            "window": 2,
            "stride": 4,
            "target_stride": 0,
            "length": 8,
            "teacher_blocks": 2,
            "teacher_item_dim": 16,
            "temperature": 2.0,
        },
    },
    "deep_fm": {"plain": {}, "enhanced": {"llm_dim": 12, "fre": 0.1, "fie": 0.5}},
    "wukong": {
        "plain": {"dropout": 0.0},
        "enhanced": {"dropout": 0.0, "llm_dim": 12, "fre": 0.1, "fie": 0.5, "alignment": "mse"},
    },
}
SCHEMA = FeatureSchema(
    item_fields=(Field("item", 30), Field("category", 7), Field("popularity", 5)),
    user_fields=(Field("age", 5), Field("city", 4)),
    context_fields=(Field("hour", 6),),
    num_items=30,
    history_length=12,
    recent_length=4,
)


def small(model: str) -> dict[str, Any]:
    """The sizes above that the model's config has."""
    keys = {field.name for field in fields(MODELS[model].config)}
    return {key: value for key, value in (SIZES | FIELD_SIZES).items() if key in keys}


@dataclass(frozen=True)
class Case:
    """One configuration of one model."""

    model: str
    label: str

    @property
    def config(self) -> dict[str, Any]:
        """The config, for `build_model`."""
        return small(self.model) | CONFIGS.get(self.model, {}).get(self.label, {})

    def has(self, key: str) -> bool:
        """Whether the model's config has this key."""
        return key in {field.name for field in fields(MODELS[self.model].config)}

    def __str__(self) -> str:
        return f"{self.model}-{self.label}"


CASES = [Case(model, label) for model in MODELS for label in CONFIGS.get(model, {"default": {}})]
NOT_EXPORTED = {
    ("lrea", "content"),
    ("lrea", "paper"),
    ("din", "long"),
    ("din", "counts"),
    ("suan", "short"),
    ("light_suan", "sparse"),
    ("deep_fm", "plain"),
    ("wukong", "plain"),
}
"""Cases that are not exported, since an export takes seconds.

Their graphs have the operations of another case's, with other weights, constants or sizes, or are a part of them
(`din-long` and `din-counts` of `din-both`, `lrea-content` of `lrea-table`, plain field models of enhanced ones).
"""
EXPORTED = [case for case in CASES if (case.model, case.label) not in NOT_EXPORTED]


def item_fields(schema: FeatureSchema = SCHEMA) -> Tensor:
    """A catalogue: items with their own ids and random fields; the two reserved rows are as `ingest` makes them."""
    generator = torch.Generator().manual_seed(3)
    columns = [torch.arange(schema.num_items)] + [
        torch.randint(FIRST_KNOWN, field.size, (schema.num_items,), generator=generator)
        for field in schema.item_fields[1:]
    ]
    catalogue = torch.stack(columns, 1)
    catalogue[:FIRST_KNOWN] = torch.arange(FIRST_KNOWN)[:, None]
    return catalogue


def random_batch(
    schema: FeatureSchema = SCHEMA, users: int = 6, candidates: int = 5, seed: int = 0
) -> Batch:
    """Users with histories of all lengths from empty to full, and slates for them."""
    generator = torch.Generator().manual_seed(seed)

    def ids(size: int, *shape: int) -> Tensor:
        return torch.randint(1, size, shape, generator=generator)

    length = torch.linspace(0, schema.history_length, users).long()[:, None]
    history = ids(schema.num_items, users, schema.history_length)
    history[torch.arange(schema.history_length) < schema.history_length - length] = 0
    profile = [ids(field.size, users) for field in schema.user_fields]
    context = [ids(field.size, users) for field in schema.context_fields]
    items = ids(schema.num_items, users, candidates)
    given = [ids(field.size, users, candidates) for field in schema.candidate_fields]
    return Batch.unweighted(
        User(
            history,
            ids(NUM_AGES, *history.shape) * (history > 0),
            torch.stack(profile, 1) if profile else ids(2, users, 0),
        ),
        Context(
            history[:, -schema.recent_length :].clone(),
            torch.stack(context, 1) if context else ids(2, users, 0),
        ),
        Slate(items, torch.stack(given, 2)) if given else Slate.of(items),
        torch.randint(0, 2, (users, candidates), generator=generator).float(),
        torch.ones(users, candidates, dtype=torch.bool),
    )
