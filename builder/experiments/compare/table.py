"""A comparison as numbers: means over seeds with 95% intervals, differences paired by seed and by user.

Where trainings have metrics of each slate beside them, intervals are over users and seeds (`evaluate/intervals.py`);
elsewhere, and for other metrics, over seeds only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from scipy import stats

from builder.evaluate.intervals import METRICS as RESAMPLED
from builder.evaluate.intervals import difference, interval
from builder.evaluate.slate_evaluation import Vectors
from builder.experiments.compare.cost import Cost, Costs
from builder.experiments.compare.plan import Outcome
from builder.recipe.models import ModelChoice
from models.contract.state_spec import RECORD_DTYPES, RecordDtype

METRICS = (
    "slate_gauc", "slate_gauc_repeat", "slate_gauc_new", "auc", "gauc", "slate_ndcg", "slate_recall", "log_loss",
    "pcoc", "ece",
)  # fmt: skip
EVENT_BYTES = 8
"""Of the raw history: a row of the catalogue and an age, int32 each."""


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
    """

    label: str
    family: str
    model: ModelChoice
    learning_rate: float
    outcomes: Sequence[Outcome]
    trials: Sequence[Outcome] = ()
    against: Sequence[str] = ()
    cost: Cost | None = None
    vectors: Mapping[int, Vectors] = field(default_factory=dict, repr=False, compare=False)
    length: int | None = None

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
        own = interval([self.vectors[seed] for seed in values], name)
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
            {seed: self.vectors[seed] for seed in seeds},
            {seed: other.vectors[seed] for seed in seeds},
            metric,
        )
        return found if paired is None else Estimate(found.mean, paired.half)

    def over_floor(
        self, metrics: Mapping[str, Any], floor: Vectors | None, metric: str
    ) -> Estimate | None:
        """Metric less a baseline's, paired by user where both have metrics of each slate.

        Args:
            metrics: of the baseline.
            floor: its metrics of each slate; None if it has none.
            metric: one of `METRICS`.
        """
        values, base = self.values(metric), metrics.get(metric)
        if base is None or not values:
            return None
        found = estimate([value - base for value in values.values()])
        if floor is None or metric not in RESAMPLED or not values.keys() <= self.vectors.keys():
            return found
        own = {seed: self.vectors[seed] for seed in values}
        paired = difference(own, {0: floor}, metric)
        return found if paired is None or found is None else Estimate(found.mean, paired.half)

    def gap(self, metric: str) -> Estimate | None:
        """Served less trained graph; None if they are the same graph."""
        served, trained = self.values(metric), self.values(metric, "trained_graph")
        return estimate([served[seed] - trained[seed] for seed in trained])

    def validation(self) -> float:
        """Mean of the best validations: GAUC per slate where it was measured, else AUC."""
        best = [outcome["validation"] for outcome in self.outcomes]
        name = "auc" if any(each.get("gauc") is None for each in best) else "gauc"
        return float(np.mean([each[name] for each in best]))

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

    def cut(self, name: str, metric: str = "auc") -> dict[str, Estimate | None]:
        """Group -> a metric. Every training has the same groups: they are of targets, not of predictions."""
        return _by_group([outcome["cuts"][name] for outcome in self.outcomes], metric)

    def by_history(self, metric: str = "auc") -> dict[str, Estimate | None]:
        """Number of events in the history -> a metric."""
        return _by_group([outcome["by_history"] for outcome in self.outcomes], metric)

    def to_dict(self) -> dict[str, Any]:
        """In JSON types, without the learning curves."""
        outcomes, trials = (
            [{key: outcome[key] for key in outcome if key != "history"} for outcome in several]
            for several in (self.outcomes, self.trials)
        )
        plain = asdict(replace(self, outcomes=(), trials=(), vectors={}))
        del plain["vectors"]
        return {**plain, "outcomes": outcomes, "trials": trials}


def _by_group(outcomes: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Estimate | None]:
    """A metric of each group; None where it does not exist."""
    values = {group: [cut[group].get(metric) for cut in outcomes] for group in outcomes[0]}
    return {
        group: estimate([value for value in several if value is not None])
        for group, several in values.items()
    }


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
        reference: label of the variant that differences are taken to, if the recipe has one.
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
    reference: str | None
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

    @property
    def full(self) -> Row | None:
        """The reference's row, if it was trained."""
        return next((row for row in self.rows if row.label == self.reference), None)

    def pairs(self) -> list[tuple[Row, Row]]:
        """Pairs of a row and a row of its `against`, where both are trained."""
        known = {row.label: row for row in self.rows}
        return [(row, known[label]) for row in self.rows for label in row.against if label in known]

    @property
    def two_stage(self) -> Row | None:
        """The best of its family by mean validation: choosing by the test would favour it."""
        family = [row for row in self.rows if row.family == "two-stage"]
        return max(family, key=Row.validation, default=None)

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
