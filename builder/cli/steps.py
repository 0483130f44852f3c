"""Runs steps of the pipeline on the terminal: one line for each, with what it made and how long it took."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rich.markup import escape

from builder.cli.progress_bar import bar, console
from builder.cli.tables import record_sizes
from builder.pipeline import STEPS, Build, is_due, run_step
from builder.recipe.audit import exception_lines

Result = Mapping[str, Any]


WHY = {
    "patience": "where it had stopped improving",
    "max_steps": "the most that the recipe allows",
    "time": "where the time was up",
}
"""Why a training ended -> the same in words."""
VERDICTS = {
    "passed": "not worse than the serving artifact {old}",
    "first": "nothing to compare with; passes alone",
    "same": "this artifact serves already",
    "off": "off in the recipe",
}
"""Verdict of the gate -> the same in words."""


def do_due_steps(build: Build) -> None:
    """Do every step that is due, in the order of the pipeline."""
    for name in STEPS:
        if is_due(build, name):
            do_step(build, name)
        else:
            console.print(f"[dim]· {name:10}  nothing changed, kept[/]")


def do_step(build: Build, name: str) -> None:
    """Do one step under a progress bar, then print its line."""
    with bar(name) as progress:
        stamp = run_step(replace(build, progress=progress), name)
    words = escape(IN_WORDS[name](stamp.result))
    line = f"[green]✓[/] {name:10} {stamp.seconds:7.1f} s  {words}"
    console.print(line, highlight=False, soft_wrap=True)
    for warning in exception_lines(build.recipe.audit) if name == "evaluate" else ():
        console.print(f"[yellow]{escape(warning)}[/]", highlight=False, soft_wrap=True)


def _ingest(result: Result) -> str:
    counts = (
        f"{result['events']:,} events of {result['users']:,} users on {result['items']:,} items"
    )
    return f"{counts}, {result['first']} to {result['last']}" if "first" in result else counts


def _audit(result: Result) -> str:
    looked = f"{result['groups']:,} groups of targets in {sum(result['slates'].values()):,} slates"
    allowed = len({found["rule"] for found in result["allowed"]})
    verdict = f"{allowed} allowed to tell labels" if allowed else "none tells labels"
    return f"{looked}, {verdict}"


def _train(result: Result) -> str:
    gauc, auc = result["validation_gauc"], result["validation_auc"]
    metric = f"AUC {auc:.4f}" if gauc is None else f"GAUC {gauc:.4f}"
    at, steps, ended = result["best_step"], result["steps"], result["ended"]
    line = f"best validation {metric} at step {at:,} of {steps:,}, {WHY[ended]}"
    if at == steps and ended != "patience":
        line += "; it may have improved further"
    start = result.get("warm_start", "")
    if start.startswith("no: "):
        return f"{line}; trained anew ({start.removeprefix('no: ')})"
    return f"{line}; went on {start}" if start else line


def _evaluate(result: Result) -> str:
    baselines = (
        f"{result['floor']['auc']:.4f} by counts, {result['trees_floor']['auc']:.4f} by trees"
    )
    targets = f"{result['test']['targets']:,} targets"
    return f"test AUC {result['test']['auc']:.4f} on {targets}; baselines: {baselines}"


def _export(result: Result) -> str:
    difference = f"{result['onnx_difference']:.0e}"
    return f"artifact {result['artifact_id']}; ONNX and torch differ by at most {difference}"


def _precompute(result: Result) -> str:
    return f"{result['users']:,} users, {record_sizes(result)}"


def _gate(result: Result) -> str:
    if result["is_forced"]:
        return f"REFUSED, and forced: {', '.join(result['failed'])}"
    return VERDICTS[result["verdict"]].format(old=result["old"])


def _publish(result: Result) -> str:
    return f"generation {result['name']}: {result['num_users']:,} users of model {result['model']}"


IN_WORDS: dict[str, Callable[[Result], str]] = {
    "ingest": _ingest,
    "audit": _audit,
    "train": _train,
    "evaluate": _evaluate,
    "export": _export,
    "precompute": _precompute,
    "gate": _gate,
    "publish": _publish,
}
"""Step -> what its result says to a person."""
