"""The figures of all scenarios: a table for the terminal, one for Markdown, and JSON."""

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
    "scenario", "requests", "faults", "answers by code", "degraded", "excused", "lost", "mixed", "wrong",
    "recovery s", "MiB (growth)", "verdict",
)  # fmt: skip

WIDE = ("answers by code", "degraded", "excused")
"""Left to the page: a terminal has 80 columns."""


def row(figures: Figures) -> list[str]:
    """One scenario as cells."""
    degraded = {name: count for name, count in figures.sources.items() if name != "hit"}
    recovery = figures.recovery_s
    shown = f"{np.median(recovery):.2f} / {max(recovery):.2f}" if recovery else ""
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
        shown,
        memory if grown is None else f"{memory} ({100 * (grown - 1):+.1f}%)",
        "passed" if not figures.broken else "; ".join(figures.broken),
    ]


def total(played: Sequence[Figures]) -> Figures:
    """All scenarios as one."""
    codes: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for one in played:
        codes.update(one.codes)
        sources.update(one.sources)
    sums = {
        name: sum(getattr(one, name) for one in played)
        for name in ("requests", "faults", "lost", "mixed", "wrong", "excused", "retried")
    }
    return Figures(
        scenario="all",
        codes=dict(codes),
        sources=dict(sources),
        recovery_s=[seconds for one in played for seconds in one.recovery_s],
        memory_growth=None,
        memory_bytes=max(one.memory_bytes for one in played),
        abuses={},
        broken=[f"{one.scenario} failed" for one in played if one.broken],
        **sums,
    )


def terminal_table(played: Sequence[Figures]) -> Table:
    """For a terminal."""
    made = Table(title="Chaos")
    for column in COLUMNS:
        if column not in WIDE:
            made.add_column(column, no_wrap=True)
    for figures in [*played, total(played)]:
        cells = dict(zip(COLUMNS, row(figures), strict=True))
        cells["verdict"] = "failed" if figures.broken else "passed"
        made.add_row(*(cell for column, cell in cells.items() if column not in WIDE))
    return made


def markdown(played: Sequence[Figures], command: str) -> str:
    """The report as a page."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(row(one) for one in [*played, total(played)])]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    abuses = [
        f"- {one.scenario}: "
        + ", ".join(f"{what} ({times})" for what, times in sorted(one.abuses.items()))
        for one in played
        if one.abuses
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
            "fault to the first answer from the user's record, p50 / max; a killed service starts in it. Memory:",
            "of the service, and its growth from the first round to the last.",
            "",
            table,
            "",
            "What misbehaving clients sent, and what came back:",
            "",
            *abuses,
            "",
        ]
    )


def save(played: Sequence[Figures], path: Path) -> None:
    """Write as JSON."""
    path.write_text(json.dumps([asdict(one) for one in played], indent=1))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(counts.items()))
