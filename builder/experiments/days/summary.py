"""Finished scores -> one row for each policy, with intervals over users and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from builder.evaluate.intervals import STUDENT, Interval, Resampled, difference, interval, resample
from builder.evaluate.slate_evaluation import Vectors, load_vectors
from builder.experiments.days.policies import KEPT, POLICIES, Policy
from builder.experiments.days.scoring import read_scored

METRICS = ("slate_gauc", "auc", "log_loss")
A_DAY = 1_000_000
"""More than the slates of a day: a slate of another day has another number."""
FEWEST_DAYS = 3
Scores = Mapping[tuple[str, int, int], dict[str, Any]]
"""Policy, seed and day -> what was written."""


@dataclass(frozen=True)
class Row:
    """A policy over some days.

    Attributes:
        policy: which.
        seeds: that have all of the days.
        own: metric -> its mean.
        over_kept: metric -> its difference to no retrain with states of the first night.
        pcoc: predicted over observed clicks, of all seeds and days together.
        pcoc_half: half of its 95% interval over days (jackknife); None for one or two days.
        minutes: processor minutes of training a night, mean over seeds and nights; 0 where nothing is trained.
    """

    policy: Policy
    seeds: Sequence[int]
    own: dict[str, Interval]
    over_kept: dict[str, Interval]
    pcoc: float
    pcoc_half: float | None
    minutes: float


def load_scores(results: Path) -> Scores:
    """All finished scores of a folder."""
    return {(one["policy"], one["seed"], one["day"]): one for one in read_scored(results)}


def days_of(scores: Scores, policy: Policy, *, of_all: bool = False) -> list[int]:
    """Days that a policy was scored on, by some seed or by all seeds that there are."""
    days = sorted({day for name, _, day in scores if name == policy.name})
    seeds = {seed for _, seed, _ in scores}
    if not of_all:
        return days
    return [day for day in days if all((policy.name, seed, day) in scores for seed in seeds)]


def rows_of(scores: Scores, days: Sequence[int]) -> list[Row]:
    """A row for each policy that some seed has on all of `days`."""
    drawn = {policy.name: _resampled(scores, policy, days) for policy in POLICIES}
    rows = []
    for policy in POLICIES:
        own = drawn[policy.name]
        if not own:
            continue
        means = {name: interval(list(own.values()), name) for name in METRICS}
        apart = {name: difference(own, drawn[KEPT.name], name) for name in METRICS}
        chosen = [scores[policy.name, seed, day] for seed in own for day in days]
        rows.append(
            Row(
                policy,
                sorted(own),
                {name: one for name, one in means.items() if one is not None},
                {name: one for name, one in apart.items() if one is not None},
                *_pcoc(chosen, len(days)),
                _minutes(policy, chosen),
            )
        )
    return rows


def _resampled(scores: Scores, policy: Policy, days: Sequence[int]) -> dict[int, Resampled]:
    seeds = sorted({seed for name, seed, _ in scores if name == policy.name})
    whole = [seed for seed in seeds if all((policy.name, seed, day) in scores for day in days)]
    return {seed: resample(_joined(scores, policy, seed, days)) for seed in whole}


def _joined(scores: Scores, policy: Policy, seed: int, days: Sequence[int]) -> Vectors:
    parts = []
    for day in days:
        vectors = load_vectors(scores[policy.name, seed, day]["vectors"])
        parts.append(vectors | {"slate": vectors["slate"] + day * A_DAY})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _pcoc(scores: Sequence[Mapping[str, Any]], num_days: int) -> tuple[float, float | None]:
    """The ratio of sums, and half of its interval. Scores come seed by seed, each with all days."""
    positives = np.array([one["positives"] for one in scores], float).reshape(-1, num_days).sum(0)
    predicted = np.array([one["pcoc"] * one["positives"] for one in scores], float)
    predicted = predicted.reshape(-1, num_days).sum(0)
    ratio = float(predicted.sum() / positives.sum())
    if num_days < FEWEST_DAYS:
        return ratio, None
    without = (predicted.sum() - predicted) / (positives.sum() - positives)
    deviation = np.sqrt((num_days - 1) / num_days * ((without - without.mean()) ** 2).sum())
    return ratio, float(STUDENT[min(num_days - 2, len(STUDENT) - 1)] * deviation)


def _minutes(policy: Policy, scores: Sequence[Mapping[str, Any]]) -> float:
    """The first night's training is that of all policies, so it does not count."""
    spent = [one["train_cpu_minutes"] for one in scores if one["day"] > 1]
    return float(np.mean(spent)) if spent and policy.weights != "kept" else 0.0
