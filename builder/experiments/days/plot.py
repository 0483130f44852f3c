"""GAUC, log loss and PCOC of each policy by day."""

from pathlib import Path

import numpy as np

from builder.experiments.days.policies import FULL, POLICIES
from builder.experiments.days.summary import Scores
from builder.experiments.report.figure import new_figure

PANELS = (
    ("slate_gauc", "GAUC per slate, less that of no retrain"),
    ("log_loss", "log loss, less that of no retrain"),
    ("pcoc", "PCOC"),
)
SHOWN = ("full", "warm", "kept-folded", "kept", "kept-nightly")


def plot_days(scores: Scores, place: Path) -> Path:
    """Draw means over seeds and write a PNG."""
    figure = new_figure(15.0, 4.5)
    axes = figure.subplots(1, len(PANELS))
    for axis, (metric, title) in zip(axes, PANELS, strict=True):
        for number, policy in enumerate(one for one in POLICIES if one.name in SHOWN):
            days = sorted({day for name, _, day in scores if name == policy.name})
            means = [_mean(scores, policy.name, day, metric) for day in days]
            mark = "D" if policy.name == FULL.name else "o-"  # not every night has one
            axis.plot(days, means, mark, color=f"C{number}", label=policy.title, markersize=5)
        axis.axhline(1.0 if metric == "pcoc" else 0.0, color="0.6", lw=0.8)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("day")
    axes[0].legend(fontsize=8)
    figure.savefig(place, dpi=120)
    return place


def _mean(scores: Scores, policy: str, day: int, metric: str) -> float:
    """Mean over the policy's seeds; of GAUC and log loss less the same seeds' without retrain."""
    found = [(seed, one) for (name, seed, at), one in scores.items() if (name, at) == (policy, day)]
    if metric == "pcoc":
        return float(np.mean([one[metric] for _, one in found]))
    apart = [one[metric] - scores["kept", seed, day][metric] for seed, one in found]
    return float(np.mean(apart))
