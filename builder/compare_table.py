"""Rows of a comparison: means over seeds with 95% intervals, as text, Markdown and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

METRICS = ("auc", "gauc", "log_loss", "pcoc")
HEADINGS = (
    "model",
    "AUC",
    "AUC over the first row",
    "GAUC",
    "log loss",
    "PCOC",
    "seeds",
    "train s",
)


@dataclass(frozen=True)
class Row:
    """One variant.

    Attributes:
        label: of the variant.
        reports: of each seed, as `Report.to_dict` gives them.
    """

    label: str
    reports: Sequence[Mapping[str, Any]]

    def values(self, metric: str) -> list[float]:
        """One metric of each seed, on the test period."""
        return [float(report["test"][metric]) for report in self.reports]

    def cells(self, first: "Row") -> list[str]:
        """Metrics as mean ± half interval, number of seeds, median seconds to train.

        The difference of AUC to the `first` row is paired: both trainings of a pair have one seed, so the same batches.
        """
        auc, *rest = (mean_and_interval(self.values(metric)) for metric in METRICS)
        pairs = zip(self.values("auc"), first.values("auc"), strict=True)
        gained = "" if self is first else mean_and_interval([own - base for own, base in pairs])
        seconds = float(np.median([report["seconds"] for report in self.reports]))
        return [auc, gained, *rest, str(len(self.reports)), f"{seconds:.0f}"]


@dataclass(frozen=True)
class Floor:
    """Logistic regression on counts: convex, so one fit says it all."""

    metrics: Mapping[str, float]

    def cells(self) -> list[str]:
        """As `Row.cells`."""
        auc, *rest = (f"{self.metrics[metric]:.4f}" for metric in METRICS)
        return [auc, "", *rest, "", ""]


def mean_and_interval(values: Sequence[float]) -> str:
    """Mean ± half of the 95% Student interval of the mean; the mean alone for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.4f}"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{mean:.4f} ± {half:.4f}"


def to_markdown(rows: Sequence[Row], floor: Floor, command: str) -> str:
    """The table, with the command that made it."""
    lines = [
        f"Made by `{command}`. Mean over seeds ± half of the 95% interval.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + " --- |" * len(HEADINGS),
        *(f"| {row.label} | " + " | ".join(row.cells(rows[0])) + " |" for row in rows),
        "| floor: logistic regression on counts | " + " | ".join(floor.cells()) + " |",
    ]
    return "\n".join(lines) + "\n"
