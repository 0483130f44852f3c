"""Rows and comparisons of made-up trainings."""

from dataclasses import replace
from typing import Any

import numpy as np

from builder.evaluate.record_sizes import RecordSizes
from builder.evaluate.slate_evaluation import Vectors
from builder.experiments.compare.table import Comparison, Row, SweepRows
from builder.recipe.models import Family, ModelChoice
from models.contract.state_spec import RecordDtype

CUT = "age of the latest event with the same item"
FLOOR = {"auc": 0.65, "gauc": 0.6, "log_loss": 0.6, "pcoc": 1.1}


def outcome(seed: int, auc: float, validation: float = 0.7, trained: float | None = None) -> Any:
    test = {"auc": auc, "gauc": auc, "log_loss": 0.5, "pcoc": 1.0, "targets": 1_234}
    groups = {
        "never": {"auc": auc - 0.1, "targets": 1_000, "share": 0.25},
        "1 to 8 days": {"auc": auc, "targets": 234, "share": 0.5},
        "over 91 days": {"auc": None, "targets": 7, "share": 1.0},
    }
    return {
        "seed": seed,
        "test": test,
        "validation": {"auc": validation},
        "seconds": 10 * (seed + 1),
        "trained_graph": None if trained is None else {**test, "auc": trained, "log_loss": 0.4},
        "cuts": {CUT: groups},
        "by_history": {"0-99": {"auc": auc, "targets": 1_234, "share": 0.3}},
        "oracle_auc": None,
        "history": [{}],
    }


def trials(*rates: float) -> list[Any]:
    return [{"learning_rate": rate, "history": []} for rate in rates]


def row(label: str, family: Family, aucs: list[float], **config: Any) -> Row:
    """A variant with these AUCs for seeds 0, 1, …"""
    found = [outcome(seed, auc) for seed, auc in enumerate(aucs)]
    bytes_: dict[RecordDtype, int] = {"fp32": 2_000, "fp16": 1_000, "int8": 600}
    sizes = RecordSizes(bytes_, {dtype: 2 * size for dtype, size in bytes_.items()}, 8_000)
    tried = trials(0.001, 0.01, 0.1)
    return Row(label, family, ModelChoice("din", config), 0.01, found, tried, sizes=sizes)


DIN = row("DIN, all", "full", [0.60, 0.65, 0.68])
SIM = row("SIM", "two-stage", [0.70, 0.80, 0.75], heads=2)


def comparison(*rows: Row, sweeps: tuple[SweepRows, ...] = ()) -> Comparison:
    floors = {"counts": FLOOR, "trees": {**FLOOR, "auc": 0.66}}
    return Comparison("tiny", rows, sweeps, floors, "Budget.")


def sweep(key: str, *values: Any) -> SweepRows:
    rows = [(value, row("SIM", "two-stage", [0.7, 0.6], **{key: value})) for value in values]
    return SweepRows(f"{key} of SIM", "SIM", key, rows)


def of_slates(seed: int, quality: float) -> Vectors:
    """Metrics of 300 slates of 100 users; those of one seed share most of their noise."""
    rng = np.random.default_rng(0)
    gauc = quality + 0.1 * rng.normal(size=300)
    gauc += 0.01 * np.random.default_rng([seed, 1]).normal(size=300)
    gauc[::3] = np.nan
    return {
        "slate": np.arange(300),
        "user": np.arange(300) % 100,
        "history": np.arange(300),
        "gauc": gauc,
        "log_loss": 0.5 + rng.normal(size=300) / 50,
        "targets": np.full(300, 20),
        "positives": np.full(300, 1),
        "won": np.full(300, quality),
        "lost": np.full(300, 19 * quality),
    }


def with_slates(label: str, family: Family, quality: float, seeds: int = 3) -> Row:
    plain = row(label, family, [quality] * seeds)
    vectors = {seed: of_slates(seed, quality) for seed in range(seeds)}
    outcomes = [
        {
            **found,
            "test": {**found["test"], "slate_gauc": float(np.nanmean(vectors[seed]["gauc"]))},
            "validation": {"auc": 0.7, "gauc": 0.7},
            "reliability": RELIABILITY,
            "best_step": 10,
            "steps": 20,
            "ended": "patience" if seed else "max_steps",
            "history": CURVE,
        }
        for seed, found in enumerate(plain.outcomes)
    ]
    return replace(plain, outcomes=outcomes, vectors=vectors)


RELIABILITY = [
    {"from": 0.0, "to": 0.9, "targets": 900, "positives": 9, "predicted": 0.012, "observed": 0.01},
    {"from": 0.9, "to": 1.0, "targets": 100, "positives": 9, "predicted": 0.08, "observed": 0.09},
]
CURVE = [
    {
        "step": step,
        "train_loss": 1 / step,
        "log_loss": 1 / step,
        "auc": 0.6,
        "gauc": 0.5 + step / 90,
    }
    for step in (5, 10, 20)
]
GOOD, FAIR = with_slates("good", "lrea", 0.8), with_slates("fair", "full", 0.7)
FLOOR_OF_SLATES = of_slates(9, 0.6)


def slate_comparison() -> Comparison:
    floors = {"trees": {**FLOOR, "slate_gauc": float(np.nanmean(FLOOR_OF_SLATES["gauc"]))}}
    return Comparison(
        "pools", [GOOD, FAIR], (), floors, "Budget.",
        floor_vectors={"trees": FLOOR_OF_SLATES}, history_length=2_000, missing=["slow", "late"],
    )  # fmt: skip


def stored(seed: int) -> Any:
    sizes = {"fp32": 400, "fp16": 200, "int8": 100}
    lost = {"fp32": 0.0, "fp16": 0.0, "int8": 0.01 + 0.01 * seed}
    return {
        dtype: {"bytes": size, "auc": 0.7 + 0.1 * seed - lost[dtype], "log_loss": 0.5}
        for dtype, size in sizes.items()
    }
