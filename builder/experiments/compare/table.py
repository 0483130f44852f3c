"""A comparison as numbers: means over seeds with 95% intervals, differences paired by seed and by user.

Where trainings have metrics of each slate beside them, intervals are over users and seeds (`evaluate/intervals.py`);
elsewhere, and for other metrics, over seeds only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from builder.evaluate.intervals import METRICS as RESAMPLED
from builder.evaluate.intervals import (
    Resampled,
    difference,
    interval,
    over_baseline,
    resample,
)
from builder.evaluate.record_sizes import RecordSizes
from builder.evaluate.slate_evaluation import Vectors
from builder.experiments.compare.cost import Cost, Costs
from builder.experiments.compare.plan import Outcome
from builder.recipe.models import Family, ModelChoice
from models.contract.state_spec import RECORD_DTYPES, RecordDtype

METRICS: tuple[str, ...] = (
    "slate_gauc", "slate_gauc_repeat", "slate_gauc_new", "auc", "gauc", "slate_ndcg", "slate_recall", "log_loss",
    "pcoc", "ece",
)  # fmt: skip

HISTORY = "number of events in the history"
"""Name of the cut by the length of the history; the others are those of `cuts` in an outcome."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half: half of the 95% interval of the mean; None for a single value without metrics of each slate.
    """

    mean: float
    half: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.half is None else f"{self.mean:.4f} ± {self.half:.4f}"


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and interval; None without values."""
    if not values:
        return None
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None)
    return Estimate(mean, float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)))


@dataclass(frozen=True)
class Row:
    """One variant, or one value of a sweep.

    Attributes:
        label: of the variant.
        family: of the variant.
        model: what was trained.
        learning_rate: chosen by the search, or the recipe's.
        outcomes: of each finished seed.
        trials: of the search that chose the rate.
        against: labels of rows that its difference to is shown.
        cost: of serving it; None until it is measured.
        vectors: seed -> metrics of each slate, of the trainings that have them.
        length: L of this variant alone; None: the recipe's.
        sizes: of users' records; None until they are measured.
    """

    label: str
    family: Family
    model: ModelChoice
    learning_rate: float
    outcomes: Sequence[Outcome]
    trials: Sequence[Outcome] = ()
    against: Sequence[str] = ()
    cost: Cost | None = None
    vectors: Mapping[int, Vectors] = field(default_factory=dict, repr=False, compare=False)
    length: int | None = None
    sizes: RecordSizes | None = None

    @cached_property
    def resampled(self) -> dict[int, Resampled]:
        """Seed -> what intervals need of its training; made once, and used by every difference."""
        return {seed: resample(vectors) for seed, vectors in self.vectors.items()}

    def values(self, metric: str, graph: str = "test") -> dict[int, float]:
        """Seed -> one metric on the test period: of the served graph, or of the "trained_graph" where it differs."""
        return {
            outcome["seed"]: float(outcome[graph][metric])
            for outcome in self.outcomes
            if outcome[graph] and outcome[graph].get(metric) is not None
        }

    def metric(self, name: str) -> Estimate | None:
        """One metric on the test period."""
        values = self.values(name)
        found = estimate(list(values.values()))
        if found is None or name not in RESAMPLED or not values.keys() <= self.vectors.keys():
            return found
        own = interval([self.resampled[seed] for seed in values], name)
        return found if own is None else Estimate(found.mean, own.half)

    def over(self, other: "Row | None", metric: str = "auc") -> Estimate | None:
        """Metric less another row's, paired: trainings with the same seed saw the same batches. None for itself."""
        if other is None or other is self:
            return None
        base = other.values(metric)
        own = self.values(metric)
        seeds = [seed for seed in own if seed in base]
        found = estimate([own[seed] - base[seed] for seed in seeds])
        known = self.vectors.keys() & other.vectors.keys()
        if found is None or metric not in RESAMPLED or not known.issuperset(seeds):
            return found
        paired = difference(
            {seed: self.resampled[seed] for seed in seeds},
            {seed: other.resampled[seed] for seed in seeds},
            metric,
        )
        return found if paired is None else Estimate(found.mean, paired.half)

    def over_floor(
        self, metrics: Mapping[str, Any], floor: Resampled | None, metric: str
    ) -> Estimate | None:
        """Metric less a baseline's, paired by user where both have metrics of each slate.

        Args:
            metrics: of the baseline.
            floor: what intervals need of it; None if it has no metrics of each slate.
            metric: one of `METRICS`.
        """
        values, base = self.values(metric), metrics.get(metric)
        if base is None or not values:
            return None
        found = estimate([value - base for value in values.values()])
        if floor is None or metric not in RESAMPLED or not values.keys() <= self.vectors.keys():
            return found
        paired = over_baseline([self.resampled[seed] for seed in values], floor, metric)
        return found if paired is None or found is None else Estimate(found.mean, paired.half)

    def gap(self, metric: str) -> Estimate | None:
        """Served less trained graph; None if they are the same graph."""
        served, trained = self.values(metric), self.values(metric, "trained_graph")
        return estimate([served[seed] - trained[seed] for seed in trained])

    def validations(self) -> list[float]:
        """The best validation of each seed: GAUC per slate where it was measured, else AUC."""
        best = [outcome["validation"] for outcome in self.outcomes]
        name = "auc" if any(each.get("gauc") is None for each in best) else "gauc"
        return [float(each[name]) for each in best]

    def validation(self) -> float:
        """Mean of the best validations."""
        return float(np.mean(self.validations()))

    def seconds(self) -> float:
        """Median to train."""
        return float(np.median([outcome["seconds"] for outcome in self.outcomes]))

    def stored(self) -> dict[RecordDtype, tuple[int, Estimate | None]]:
        """Dtype of the records -> bytes, and AUC less that of fp32 records, paired; empty if not measured."""
        stored = [outcome.get("stored", {}) for outcome in self.outcomes]
        return {
            dtype: (
                stored[0][dtype]["bytes"],
                estimate([each[dtype]["auc"] - each["fp32"]["auc"] for each in stored]),
            )
            for dtype in RECORD_DTYPES
            if all(dtype in each for each in stored)
        }

    def group_sizes(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        """Group of a cut (or `HISTORY`) -> its targets: the same in every training, they are not of predictions."""
        return _cut(self.outcomes[0], name)

    def group(self, name: str, metric: str = "auc") -> dict[str, Estimate | None]:
        """Group of a cut (or `HISTORY`) -> a metric; None where it does not exist."""
        return self.group_over(None, name, metric)

    def group_over(
        self, other: "Row | None", name: str, metric: str = "auc"
    ) -> dict[str, Estimate | None]:
        """Group of a cut (or `HISTORY`) -> a metric less another row's, paired by seed; without a row the metric."""
        base = {outcome["seed"]: _cut(outcome, name) for outcome in other.outcomes} if other else {}
        found = {}
        for group in self.group_sizes(name):
            values = []
            for outcome in self.outcomes:
                value = _cut(outcome, name)[group].get(metric)
                less = base.get(outcome["seed"], {}).get(group, {}).get(metric) if other else 0.0
                if value is not None and less is not None:
                    values.append(value - less)
            found[group] = estimate(values)
        return found

    def to_dict(self) -> dict[str, Any]:
        """In JSON types, without the learning curves."""
        outcomes, trials = (
            [{key: outcome[key] for key in outcome if key != "history"} for outcome in several]
            for several in (self.outcomes, self.trials)
        )
        plain = asdict(replace(self, outcomes=(), trials=(), vectors={}))
        del plain["vectors"]
        return {**plain, "outcomes": outcomes, "trials": trials}


def _cut(outcome: Outcome, name: str) -> Mapping[str, Mapping[str, Any]]:
    groups: Mapping[str, Mapping[str, Any]] = (
        outcome.get("by_history", {}) if name == HISTORY else outcome["cuts"].get(name, {})
    )
    return groups


@dataclass(frozen=True)
class SweepRows:
    """A sweep.

    Attributes:
        label: of the sweep.
        variant: label of the variant it starts from.
        key: of the model's config.
        rows: value -> its trainings.
    """

    label: str
    variant: str
    key: str
    rows: Sequence[tuple[Any, Row]]


@dataclass(frozen=True)
class Comparison:
    """Results of a comparison.

    Attributes:
        name: of the recipe.
        rows: of each variant with a finished training, families together, in the recipe's order.
        sweeps: with a finished training.
        floors: name of a baseline -> metrics.
        budget: of the search and the trainings, in words.
        machine: where and when the cost was measured; empty until it is.
        floor_vectors: name of a baseline -> metrics of each slate.
        history_length: L.
        missing: labels of variants without a finished training.
    """

    name: str
    rows: Sequence[Row]
    sweeps: Sequence[SweepRows]
    floors: Mapping[str, Mapping[str, Any]]
    budget: str
    machine: Mapping[str, str] = field(default_factory=dict)
    floor_vectors: Mapping[str, Vectors] = field(default_factory=dict, repr=False)
    history_length: int = 0
    missing: Sequence[str] = ()

    def with_costs(self, costs: Costs) -> "Comparison":
        """The same, each row with its cost."""
        return replace(
            self,
            rows=[replace(row, cost=costs.find(row.model, row.length)) for row in self.rows],
            sweeps=[
                replace(
                    sweep,
                    rows=[
                        (v, replace(row, cost=costs.find(row.model, row.length)))
                        for v, row in sweep.rows
                    ],
                )
                for sweep in self.sweeps
            ],
            machine=costs.machine,
        )

    @cached_property
    def floors_resampled(self) -> dict[str, Resampled]:
        """Name of a baseline -> what intervals need of it."""
        return {name: resample(vectors) for name, vectors in self.floor_vectors.items()}

    @property
    def full(self) -> Row | None:
        """The best form of full attention to all L events, which differences are taken to."""
        return self.best("full")

    @property
    def two_stage(self) -> Row | None:
        """The best two-stage model."""
        return self.best("two-stage")

    @property
    def winner(self) -> Row | None:
        """The best that folds the history into slots: the cost of scoring does not grow with the history."""
        return self.best("lrea")

    def best(self, family: Family) -> Row | None:
        """The best of a family by mean validation: a choice by test metrics would bias these upwards. None without one.

        Variants with a shorter history of their own are left out.
        """
        rows = [row for row in self.rows if row.family == family and row.length is None]
        return max(rows, key=Row.validation, default=None)

    @property
    def models(self) -> list[Row]:
        """Rows of the main table: all but the ablation."""
        return [row for row in self.rows if row.family != "ablation"]

    @property
    def ablation(self) -> list[Row]:
        """The winner with one option less each."""
        return [row for row in self.rows if row.family == "ablation"]

    def pairs(self) -> list[tuple[Row, Row]]:
        """Pairs of a row and a row of its `against`, where both are trained."""
        known = {row.label: row for row in self.rows}
        return [(row, known[label]) for row in self.rows for label in row.against if label in known]

    @property
    def main_metric(self) -> str:
        """GAUC per slate, which is what a ranking is for; AUC where slates are too small for it to be validated by."""
        first = self.rows[0].outcomes[0] if self.rows else None
        has = first is not None and first["validation"].get("gauc") is not None
        return "slate_gauc" if has else "auc"

    @property
    def median_events(self) -> int | None:
        """Median number of events in the histories of the test slates, up to L; None where it was not kept."""
        medians = [
            int(np.median(vectors["history"]))
            for row in self.rows
            for vectors in row.vectors.values()
        ]
        return max(medians, default=None)  # a variant with a shorter L of its own has fewer

    @property
    def num_targets(self) -> int:
        """Of the test period: the same for all rows."""
        return int(self.rows[0].outcomes[0]["test"]["targets"]) if self.rows else 0

    @property
    def oracle_auc(self) -> float | None:
        """Of the probabilities that made the labels, where the log has them."""
        known: float | None = self.rows[0].outcomes[0]["oracle_auc"] if self.rows else None
        return known
