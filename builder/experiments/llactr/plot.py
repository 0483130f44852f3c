"""What a language model's field vectors give, as a picture: RelaImpr of each arm, and of each backbone behind it."""

from pathlib import Path

from builder.experiments.llactr.arms import BASE, ENHANCED
from builder.experiments.llactr.findings import PAPER_PERCENT, Findings
from builder.experiments.report.figure import new_figure


def plot_findings(findings: Findings, out: Path) -> list[Path]:
    """Write `llactr.png`; return its path, or nothing if no arm was trained beside the base."""
    arms = [arm for arm in findings.arms if arm.name != BASE][::-1]
    if not arms:
        return []
    figure = new_figure(8.5, 0.5 * len(arms) + 2)
    axes = figure.add_subplot()
    for place, backbone in enumerate(findings.backbones):
        values = [findings.improvement(backbone, arm.name) for arm in arms]
        known = [(value.mean, at) for at, value in enumerate(values) if value is not None]
        axes.plot(
            [x for x, _ in known],
            [y for _, y in known],
            "|",
            color=f"C{place}",
            markersize=9,
            markeredgewidth=1.5,
            alpha=0.8,
            label=backbone,
        )
    for at, arm in enumerate(arms):
        mean = findings.mean_improvement(arm.name)
        if mean is not None:
            color = "C3" if arm.name == ENHANCED else "0.25"
            axes.errorbar(mean.mean, at, xerr=mean.half or 0.0, fmt="o", color=color, capsize=4)
    axes.axvline(0, color="0.5", linewidth=1)
    axes.axvline(PAPER_PERCENT, color="C3", linestyle="--", linewidth=1, label="the paper's mean")
    axes.set_yticks(range(len(arms)), [arm.name for arm in arms])
    axes.set_xlabel("RelaImpr over the plain backbone, %")
    axes.set_title(f"{findings.comparison.name}: mean of the backbones, 95% interval over seeds")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    path = out / "llactr.png"
    figure.savefig(path, dpi=120)
    return [path]
