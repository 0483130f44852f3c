"""Figures of all scenarios: as a table for the terminal, as Markdown, and as JSON."""

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
from rich.table import Table

from loadtest.chaos.verdict import Figures

COLUMNS = (
    "scenario",
    "requests",
    "faults",
    "answers by code",
    "degraded",
    "excused",
    "lost",
    "mixed",
    "wrong",
    "recovery s",
    "MiB (growth)",
    "verdict",
)

WIDE = ("answers by code", "degraded", "excused")
"""Columns of the Markdown page only: the terminal is too narrow."""


def row(figures: Figures) -> list[str]:
    """Cells of one scenario."""
    degraded = {name: count for name, count in figures.sources.items() if name != "hit"}
    recovery = figures.recovery_s
    recovery_text = f"{np.median(recovery):.2f} / {max(recovery):.2f}" if recovery else ""
    grown = figures.memory_growth
    memory = f"{figures.memory_bytes / (1 << 20):.0f}"
    return [
        figures.scenario,
        f"{figures.requests:,}",
        str(figures.faults),
        _counts(figures.codes),
        _counts(degraded),
        str(figures.excused),
        str(figures.lost),
        str(figures.mixed),
        str(figures.wrong),
        recovery_text,
        memory if grown is None else f"{memory} ({100 * (grown - 1):+.1f}%)",
        "passed" if not figures.broken else "; ".join(figures.broken),
    ]


def total(results: Sequence[Figures]) -> Figures:
    """Sum of all scenarios."""
    codes: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for figures in results:
        codes.update(figures.codes)
        sources.update(figures.sources)
    sums = {
        name: sum(getattr(figures, name) for figures in results)
        for name in ("requests", "faults", "lost", "mixed", "wrong", "excused", "retried")
    }
    return Figures(
        scenario="all",
        codes=dict(codes),
        sources=dict(sources),
        recovery_s=[seconds for figures in results for seconds in figures.recovery_s],
        memory_growth=None,
        memory_bytes=max(figures.memory_bytes for figures in results),
        abuses={},
        broken=[f"{figures.scenario} failed" for figures in results if figures.broken],
        **sums,
    )


def terminal_table(results: Sequence[Figures]) -> Table:
    """Table for a terminal."""
    shown = Table(title="Chaos")
    for column in COLUMNS:
        if column not in WIDE:
            shown.add_column(column, no_wrap=True)
    for figures in [*results, total(results)]:
        cells = dict(zip(COLUMNS, row(figures), strict=True))
        cells["verdict"] = "failed" if figures.broken else "passed"
        shown.add_row(*(cell for column, cell in cells.items() if column not in WIDE))
    return shown


def markdown(results: Sequence[Figures], command: str) -> str:
    """Markdown page."""
    rows = [
        COLUMNS,
        ["---"] * len(COLUMNS),
        *(row(figures) for figures in [*results, total(results)]),
    ]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    abuses = [
        f"- {figures.scenario}: "
        + ", ".join(f"{what} ({times})" for what, times in sorted(figures.abuses.items()))
        for figures in results
        if figures.abuses
    ]
    machine = (
        f"{psutil.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    )
    return "\n".join(
        [
            "# Chaos",
            "",
            f"`{command}` on {datetime.now(UTC):%Y-%m-%d}, {machine}; load, cache and service on the same machine.",
            "",
            "Every answer's scores were compared with those of the artifact and the state that it names (within 1e-6).",
            "Excused: requests without an answer while the process was killed or draining. Recovery: from the end of a",
            "fault to the first answer from the user's record, p50 / max;",
            "it includes the start of a killed service. Memory: of the service, and its growth from the first round to",
            "the last; `flips` ignores its first ten flips.",
            "",
            table,
            "",
            "Requests of misbehaving clients, and what they got:",
            "",
            *abuses,
            "",
        ]
    )


def save(results: Sequence[Figures], path: Path) -> None:
    """Write the figures as JSON."""
    path.write_text(json.dumps([asdict(figures) for figures in results], indent=1))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(counts.items()))
