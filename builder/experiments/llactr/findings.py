"""python -m builder llactr: what a language model's field vectors give six field models, beside controls.

The trainings are a comparison's (`experiments/compare`): its variants are the recipe's backbones times the arms of
`arms.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from builder.experiments.compare.table import Comparison, Estimate, Row, estimate
from builder.experiments.llactr.arms import ARMS, BASE, ENHANCED, Arm, label

PAPER_PERCENT = 2.24
"""LLaCTR's mean RelaImpr, of six backbones and four data sets."""

LEAST_AUC = 0.51
"""Of a plain backbone: below, an improvement relative to chance is a ratio of noise, and is left out."""


@dataclass(frozen=True)
class Findings:
    """Trainings of all backbones and arms.

    Attributes:
        comparison: the trainings.
        backbones: labels of the plain backbones, in the recipe's order.
        rows: label of a backbone, name of an arm -> its trainings.
        language: report on how the field vectors were made (`builder/language`).
    """

    comparison: Comparison
    backbones: Sequence[str]
    rows: Mapping[tuple[str, str], Row]
    language: Mapping[str, Any]

    @property
    def arms(self) -> list[Arm]:
        """Those that were trained."""
        return [
            arm for arm in ARMS if any((name, arm.name) in self.rows for name in self.backbones)
        ]

    def improvement(self, backbone: str, arm: str) -> Estimate | None:
        """RelaImpr over the plain backbone in percent, paired by seed."""
        return estimate(list(self._improvements(backbone, arm).values()))

    def mean_improvement(self, arm: str) -> Estimate | None:
        """Mean of all backbones' RelaImpr: over seeds, of a seed's mean."""
        return self._mean(lambda backbone: self._improvements(backbone, arm))

    def mean_lead(self, arm: str) -> Estimate | None:
        """AUC of LLaCTR less that of another arm, mean of all backbones, paired by seed."""
        return self._mean(lambda backbone: self._leads(backbone, arm))

    def time_ratio(self, backbone: str) -> float | None:
        """Seconds to train with LLaCTR over those of the plain backbone: medians."""
        rows = [self.rows.get((backbone, arm)) for arm in (ENHANCED, BASE)]
        enhanced, base = rows
        return None if enhanced is None or base is None else _seconds(enhanced) / _seconds(base)

    def _improvements(self, backbone: str, arm: str) -> dict[int, float]:
        base, own = self._aucs(backbone, BASE), self._aucs(backbone, arm)
        return {
            seed: 100 * ((own[seed] - 0.5) / (base[seed] - 0.5) - 1)
            for seed in own
            if base.get(seed, 0.0) > LEAST_AUC
        }

    def _leads(self, backbone: str, arm: str) -> dict[int, float]:
        own, other = self._aucs(backbone, ENHANCED), self._aucs(backbone, arm)
        return {seed: own[seed] - other[seed] for seed in own if seed in other}

    def _aucs(self, backbone: str, arm: str) -> dict[int, float]:
        row = self.rows.get((backbone, arm))
        return {} if row is None else row.values("auc")

    def _mean(self, values: Callable[[str], dict[int, float]]) -> Estimate | None:
        """Over the seeds that all backbones have."""
        by_backbone = [values(backbone) for backbone in self.backbones]
        seeds = set.intersection(*map(set, by_backbone)) if by_backbone else set()
        means = [np.mean([of_seed[seed] for of_seed in by_backbone]) for seed in sorted(seeds)]
        return estimate([float(mean) for mean in means])


def _seconds(row: Row) -> float:
    """Median of a step's."""
    return float(np.median([outcome["seconds"] / outcome["steps"] for outcome in row.outcomes]))


def find(comparison: Comparison, backbones: Sequence[str], language: Mapping[str, Any]) -> Findings:
    """Sort a comparison's rows by backbone and arm."""
    known = {row.label: row for row in comparison.rows}
    pairs = [(backbone, arm.name) for backbone in backbones for arm in ARMS]
    rows = {pair: known[label(*pair)] for pair in pairs if label(*pair) in known}
    return Findings(comparison, backbones, rows, language)
