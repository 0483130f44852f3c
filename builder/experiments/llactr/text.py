"""What a language model's field vectors give, as Markdown and JSON, beside their picture."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder.experiments.compare.table import Estimate, Row
from builder.experiments.llactr.arms import BASE, ENHANCED, Arm
from builder.experiments.llactr.findings import PAPER_PERCENT, Findings
from builder.experiments.llactr.plot import plot_findings
from builder.experiments.report.markdown import markdown_table, write_report

NOTES = (
    "Mean over seeds ± half of the 95% Student interval; everything that is taken to another training is paired by",
    "seed: both saw the same batches. RelaImpr = (AUC − ½) / (AUC of the plain backbone − ½) − 1; blank where that",
    "backbone is not above .51. The mean of the backbones is taken seed by seed. An interval over seeds knows nothing",
    "of how small a test is: its targets and positives are below. All arms have as many trials as the plain backbone.",
)


def write_findings(findings: Findings, command: str, out: Path) -> list[Path]:
    """Write table, numbers and plot; return their paths.

    Args:
        findings: of all backbones and arms.
        command: that made it.
        out: folder, made if absent.
    """
    written = write_report(
        out, "llactr", _to_markdown(findings, command), _to_json(findings, command)
    )
    return [*written, *plot_findings(findings, out)]


def _to_json(findings: Findings, command: str) -> dict[str, Any]:
    plain = [
        {"backbone": backbone, "arm": arm, **row.to_dict()}
        for (backbone, arm), row in findings.rows.items()
    ]
    for row in plain:
        del row["trials"]  # their choice is in the row's model and learning rate
    return {
        "command": command,
        "budget": findings.comparison.budget,
        "language": dict(findings.language),
        "mean_relaimpr_percent": {
            arm.name: _plain(findings.mean_improvement(arm.name)) for arm in findings.arms
        },
        "rows": plain,
    }


def _plain(value: Estimate | None) -> dict[str, Any] | None:
    return None if value is None else asdict(value)


def _to_markdown(findings: Findings, command: str) -> str:
    comparison, arms = findings.comparison, findings.arms
    lines = [f"# {comparison.name}: LLaCTR", "", f"Made by `{command}`.", "", *NOTES, ""]
    lines += [
        f"{comparison.num_targets:,} test targets, {_positives(findings):,} of them positive. "
    ]
    lines[-1] += comparison.budget
    lines += ["", *(f"- **{arm.name}**: {arm.description}." for arm in arms)]
    lines += ["", "## RelaImpr in percent", "", *_improvements(findings, arms)]
    lines += ["", f"The paper's mean, of six backbones and four data sets: {PAPER_PERCENT} %."]
    lines += [
        "",
        f"## {ENHANCED} over each other arm: AUC, mean of the backbones",
        "",
        *_leads(findings),
    ]
    for metric, name in (("auc", "AUC"), ("log_loss", "log loss")):
        lines += ["", f"## {name}", "", *_by_backbone(findings, metric)]
    lines += ["", "## Chosen by the search", "", *_settings(findings)]
    lines += ["", "## Time", "", *_times(findings)]
    lines += ["", "## The field vectors", "", *_language(findings)]
    return "\n".join(lines) + "\n"


def _positives(findings: Findings) -> int:
    return int(next(iter(findings.rows.values())).outcomes[0]["test"]["positives"])


def _improvements(findings: Findings, arms: Sequence[Arm]) -> list[str]:
    headings = ["arm", *findings.backbones, "mean of the backbones"]
    rows = []
    for arm in arms:
        if arm.name != BASE:
            cells = [_percent(findings.improvement(name, arm.name)) for name in findings.backbones]
            mean = _percent(findings.mean_improvement(arm.name))
            rows.append([arm.name, *cells, f"**{mean}**" if mean else ""])
    return markdown_table(headings, rows)


def _leads(findings: Findings) -> list[str]:
    names = [arm.name for arm in findings.arms if arm.name != ENHANCED]
    return markdown_table(names, [[_signed(findings.mean_lead(name)) for name in names]])


def _by_backbone(findings: Findings, metric: str) -> list[str]:
    rows = []
    for arm in findings.arms:
        known = [findings.rows.get((name, arm.name)) for name in findings.backbones]
        rows.append([arm.name, *("" if row is None else str(row.metric(metric)) for row in known)])
    return markdown_table(["arm", *findings.backbones], rows)


def _settings(findings: Findings) -> list[str]:
    """Learning rate, weight decay, λ_kl, λ_fm."""

    def cell(row: Row | None) -> str:
        if row is None:
            return ""
        config = row.outcomes[0]["config"]
        numbers = row.learning_rate, row.outcomes[0]["weight_decay"], config["fre"], config["fie"]
        return " / ".join(f"{number:g}" for number in numbers)

    rows = [
        [arm.name, *(cell(findings.rows.get((name, arm.name))) for name in findings.backbones)]
        for arm in findings.arms
    ]
    return [
        "Learning rate / weight decay / λ_kl / λ_fm.",
        "",
        *markdown_table(["arm", *findings.backbones], rows),
    ]


def _times(findings: Findings) -> list[str]:
    headings = ["", *findings.backbones]
    rows = []
    for name in (BASE, ENHANCED):
        known = [findings.rows.get((backbone, name)) for backbone in findings.backbones]
        rows.append(
            [f"{name}: s", *("" if row is None else f"{row.seconds():.1f}" for row in known)]
        )
    ratios = [findings.time_ratio(backbone) for backbone in findings.backbones]
    rows.append(["per step, over the base's", *("" if x is None else f"{x:.2f}" for x in ratios)])
    seconds = ", ".join(
        f"{phase} {value:.0f}" for phase, value in findings.language["seconds"].items()
    )
    made = f"Seconds to make the field vectors, once: {seconds}."
    return [made, "Median seconds to train, on one thread:", "", *markdown_table(headings, rows)]


def _language(findings: Findings) -> list[str]:
    """How they were made, and whether the language model knows the fields."""
    made = findings.language
    accuracy, cosines = made["accuracy"], made["cosines"]
    before, after = (accuracy[when]["of_values"] for when in ("before", "after"))
    lines = [
        f"{made['model']}, {made['steps']} steps on {made['num_train']:,} values."
        + (f" Loss {made['losses'][0]:.2f} to {made['losses'][-1]:.2f}." if made["losses"] else "")
    ]
    if after is not None:
        lines[0] += (
            f" Of {made['num_held_out']:,} held-out values {after:.1%} are nearest to their own field, {before:.1%}"
            f" before tuning; chance {accuracy['chance']:.1%}, and {accuracy['limit']:.1%} at most: values are shared."
        )
    if cosines:
        spread = ", ".join(f"{name} {value:.2f}" for name, value in cosines.items())
        lines += ["", f"Cosines between fields: {spread}."]
    shares = accuracy["after"]["by_field"]
    rows = [
        [name, text, f"{shares[name]:.2f}" if name in shares else ""]
        for name, text in made["fields"].items()
    ]
    return [*lines, "", *markdown_table(["field", "description", "held-out accuracy"], rows)]


def _percent(value: Estimate | None) -> str:
    if value is None:
        return ""
    return f"{value.mean:+.2f}" + ("" if value.half is None else f" ± {value.half:.2f}")


def _signed(value: Estimate | None) -> str:
    if value is None:
        return ""
    return f"{value.mean:+.4f}" + ("" if value.half is None else f" ± {value.half:.4f}")
