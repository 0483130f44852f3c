"""`python -m builder.experiments.llactr.ssft_timing`: tunes on 13 fields of 1,000 values; time and accuracy."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from builder.experiments.llactr.ssft_demo import demo_texts
from builder.experiments.report.markdown import markdown_table
from builder.language.vectors import field_vectors
from builder.provenance import describe_machine
from builder.recipe.language import Architecture, LanguageRule
from models.contract.errors import AbsorbError

console = Console()
SMOLLM2, MINILM = LanguageRule(model="smollm2"), LanguageRule(model="minilm")
TRIALS = (
    *(replace(MINILM, learning_rate=rate, steps=33, batch=128) for rate in (3e-4, 1e-3, 3e-3)),
    *(replace(MINILM, learning_rate=rate) for rate in (1e-3, 3e-3)),
    SMOLLM2,
)
"""33 steps of 128, the paper's batch, see a third of the prompts; 66 of 32, the default, a sixth."""


def main(
    out: Annotated[Path, typer.Option(help="file of the table")] = Path("var/language/ssft.md"),
    folder: Annotated[Path, typer.Option(help="of vectors already made")] = Path("var/language"),
    model: Annotated[str | None, typer.Option(help="smollm2 or minilm alone")] = None,
    threads: Annotated[int, typer.Option(help="0: one per core")] = 0,
) -> None:
    """Tune on the demo's fields with several learning rates and steps. What was tuned before is only read."""
    known: Sequence[Architecture] = ("smollm2", "minilm")
    if model is not None and model not in known:
        raise typer.BadParameter(f"got {model!r}, expected one of: {', '.join(known)}")
    texts, reports = demo_texts(), []
    for rule in TRIALS:
        if model in (None, rule.model):
            with console.status(f"{rule.model}, rate {rule.learning_rate:g}, {rule.steps} steps"):
                made = field_vectors(texts, replace(rule, threads=threads), folder)
            reports.append((rule, made.report))
    command = "python -m builder.experiments.llactr.ssft_timing" + (
        f" --model {model}" if model else ""
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [*_machine(command), "", *_learned(reports), "", *_spent(reports)]
    out.write_text("\n".join(lines) + "\n")
    console.print(out)


def _machine(command: str) -> list[str]:
    machine = {**describe_machine(command), "runtime": f"torch {torch.__version__}"}
    return markdown_table(("", ""), machine.items())


def _name(rule: LanguageRule) -> list[str]:
    return [rule.model, rule.template, f"{rule.learning_rate:g}", f"{rule.steps} × {rule.batch}"]


def _learned(reports: Sequence[tuple[LanguageRule, dict[str, Any]]]) -> list[str]:
    headings = (
        "Model",
        "Prompt",
        "Rate",
        "Steps × batch",
        "Loss first",
        "last",
        "Accuracy before",
        "after",
    )
    spread = ("Worst field", "Cosines min", "mean", "max")
    rows = []
    for rule, report in reports:
        before, after = report["accuracy"]["before"], report["accuracy"]["after"]
        worst = min(after["by_field"], key=after["by_field"].__getitem__)
        numbers = (
            report["losses"][0],
            report["losses"][-1],
            before["of_values"],
            after["of_values"],
        )
        cosines = [f"{report['cosines'][part]:.3f}" for part in ("min", "mean", "max")]
        shown = [f"{number:.3f}" for number in numbers]
        rows.append([*_name(rule), *shown, f"{worst} {after['by_field'][worst]:.2f}", *cosines])
    return markdown_table((*headings, *spread), rows)


def _spent(reports: Sequence[tuple[LanguageRule, dict[str, Any]]]) -> list[str]:
    phases = ("load", "tokenise", "forward", "backward", "update", "encode", "measure")
    rows = []
    for rule, report in reports:
        seconds = report["seconds"]
        total = sum(seconds.values())
        shares = [f"{seconds[phase] / total:.1%}" for phase in phases]
        rows.append([*_name(rule), f"{total:.0f}", f"{report['cpu_s']:.0f}", *shares])
    return markdown_table(
        ("Model", "Prompt", "Rate", "Steps × batch", "Seconds", "CPU seconds", *phases), rows
    )


if __name__ == "__main__":
    try:
        typer.run(main)
    except AbsorbError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
