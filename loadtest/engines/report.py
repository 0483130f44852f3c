"""The results of `absorb bench-engines` as JSON and as a page."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.engines.measure import BASELINE, Cell

TITLE = "# Engines on one core"
NOTE = (
    "Calls of the engines alone, one user's slate each, in turn on one thread. Users are real records, candidates "
    'are drawn from the catalogue. "× ONNX Runtime" is the median over rounds of the ratio of medians, with its '
    "smallest and largest round. Percent of peak counts the multiply-adds that the kernel has to do, without "
    "exponentials, against a loop of multiply-adds in registers of the same instruction set. "
    'With "all filled", the empty slots of each user hold random items: what is left of the gain then does not come '
    "from skipping them. ONNX Runtime cannot be given the filled slots alone, since its graph has a fixed number of "
    "them."
)
COLUMNS = (
    "candidates | slots (filled) | engine | p50 µs (p10–p90) | × ONNX Runtime | max \\|Δp\\| | "
    "% of peak: attention, head, all"
)


def write_report(out: Path, about: dict[str, Any], cells: Sequence[Cell]) -> None:
    """Write `engines.json` and `engines.md`.

    Args:
        out: folder; created if it does not exist.
        about: machine, commit, artifact, peaks, rounds and users.
        cells: all measurements.
    """
    out.mkdir(parents=True, exist_ok=True)
    content = {**about, "cells": [asdict(cell) for cell in cells]}
    (out / "engines.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "engines.md").write_text(page(about, cells))


def page(about: dict[str, Any], cells: Sequence[Cell]) -> str:
    """The page."""
    peaks = ", ".join(f"{name} {peak:.0f}" for name, peak in about["peak_gflops"].items())
    machine = f"{about['machine']}; commit {about['commit']}; fp32 peak in GFLOP/s: {peaks}."
    rule = " | ".join("---" for _ in COLUMNS.replace("\\|", "").split("|"))
    rows = [f"| {COLUMNS} |", f"| {rule} |", *map(_row, cells)]
    size = f"{about['users']} users, {about['rounds']} rounds."
    return "\n\n".join([TITLE, machine, f"{NOTE} {size}", "\n".join(rows)]) + "\n"


def _row(cell: Cell) -> str:
    shares = ", ".join(f"{value:.0f}" for value in cell.percent_of_peak.values()) or "–"
    ratio = f"{cell.ratio:.2f} ({cell.ratio_low:.2f}–{cell.ratio_high:.2f})"
    columns = (
        str(cell.candidates),
        f"{cell.slots} ({cell.filled:.0f})",
        cell.engine,
        f"{cell.p50_us:.0f} ({cell.low_us:.0f}–{cell.high_us:.0f})",
        "1" if cell.engine == BASELINE else ratio,
        f"{cell.difference:.0e}",
        shares,
    )
    return f"| {' | '.join(columns)} |"
