"""The table, the verdicts and the plot of the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib as mpl

from loadtest.peers.bench import Figures
from loadtest.peers.cells import Cell
from loadtest.peers.queries import SLATES

MAX_OVERHEAD_MS = 1.5
MIN_RATIO = 1.3
"""Smallest ratio of answers per second to the best general server, at concurrency 8."""
ONE, MANY = 1, 8


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: name of its results.
        title: title with the chosen number of workers.
        is_general: a general server, which Absorb's throughput must beat by `MIN_RATIO`.
        rounds: figures of each round; empty if it failed.
        problem: reason of a failure; empty: none.
    """

    name: str
    title: str
    is_general: bool
    rounds: Sequence[Figures]
    problem: str = ""


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest value over the rounds."""

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """Text for a table."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}–{self.high:,.{digits}f})"


@dataclass(frozen=True)
class Verdict:
    """One claim and whether the figures meet it; `is_met` is None if figures are missing."""

    claim: str
    measured: str
    is_met: bool | None

    def line(self) -> str:
        """Row of the table of verdicts."""
        word = {True: "met", False: "NOT met", None: "unknown"}[self.is_met]
        return f"| {self.claim} | {self.measured} | **{word}** |"


def spread(values: Sequence[float]) -> Spread:
    """Summary over at least one round."""
    return Spread(median(values), min(values), max(values))


def over_rounds(row: Row, cell: Cell, what: str) -> list[float]:
    """One figure for each round."""
    return [figures[str(cell)][what] for figures in row.rounds]


def verdicts(ours: Row, bare: Row, rows: Sequence[Row]) -> list[Verdict]:
    """The claims on overhead and throughput at both slate sizes, for one row of ours."""
    judged = [_overhead(ours, bare, slate) for slate in SLATES]
    general = [row for row in rows if row.is_general and row.rounds]
    alone = [row for row in rows if row.name == "fastapi" and row.rounds]
    for slate in SLATES:
        judged.append(_ratio(ours, general, slate, MIN_RATIO, "the best of the general servers"))
        judged.append(_ratio(ours, alone, slate, 1.0, "FastAPI alone"))
    return judged


def _overhead(ours: Row, bare: Row, slate: int) -> Verdict:
    claim = f"B = {slate:,}, concurrency 1: p50 − p50 of ONNX Runtime alone ≤ {MAX_OVERHEAD_MS} ms"
    cell = Cell(ONE, slate)
    pairs = zip(
        over_rounds(ours, cell, "p50_ms"), over_rounds(bare, cell, "p50_ms"), strict=False
    )  # of the same round
    differences = [mine - theirs for mine, theirs in pairs]
    if not differences:
        return Verdict(claim, "no figures", None)
    overhead = spread(differences)
    return Verdict(claim, f"{overhead.text(2)} ms", overhead.median <= MAX_OVERHEAD_MS)


def _ratio(ours: Row, others: Sequence[Row], slate: int, least: float, name: str) -> Verdict:
    claim = f"B = {slate:,}, concurrency 8: answers/s ≥ {least:g} × {name}"
    cell = Cell(MANY, slate)
    if not others or not ours.rounds:
        return Verdict(claim, "no figures", None)
    per_s = {row.title: median(over_rounds(row, cell, "per_s")) for row in others}
    best = max(per_s, key=lambda title: per_s[title])
    mine = median(over_rounds(ours, cell, "per_s"))
    ratio = mine / per_s[best]
    measured = f"{mine:,.0f} / {per_s[best]:,.0f} ({best}) = {ratio:.2f}"
    return Verdict(claim, measured, ratio >= least)


def table(rows: Sequence[Row], slate: int) -> list[str]:
    """Markdown lines: medians over the rounds, with the smallest and the largest."""
    lines = [
        "| | p50 ms, one at a time | p90 | p99 | answers/s | p50 ms, 8 at a time | p99 | answers/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if not row.rounds:
            lines.append(f"| {row.title} | no figures: {_on_one_line(row.problem)} | | | | | | |")
            continue
        one, many = Cell(ONE, slate), Cell(MANY, slate)
        cells = [
            spread(over_rounds(row, one, "p50_ms")).text(2),
            f"{median(over_rounds(row, one, 'p90_ms')):.2f}",
            f"{median(over_rounds(row, one, 'p99_ms')):.2f}",
            f"{median(over_rounds(row, one, 'per_s')):,.0f}",
            f"{median(over_rounds(row, many, 'p50_ms')):.2f}",
            f"{median(over_rounds(row, many, 'p99_ms')):.2f}",
            spread(over_rounds(row, many, "per_s")).text(0),
        ]
        degraded = sum(over_rounds(row, one, "degraded") + over_rounds(row, many, "degraded"))
        title = f"{row.title} ({degraded:.0f} answers degraded)" if degraded else row.title
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def _on_one_line(text: str) -> str:
    shown = " ".join(text.split()).replace("|", "/")
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


def page(ours: Sequence[Row], bare: Row, peers: Sequence[Row], facts: Mapping[str, str]) -> str:
    """The page `peers.md`. The verdicts are on the first row of `ours`: Absorb with its defaults."""
    rows = [bare, *ours, *peers]
    judged = verdicts(ours[0], bare, peers) if ours else []
    lines = ["# Absorb beside other servers of the same model", ""]
    lines += [f"- {what}: {value}" for what, value in facts.items()]
    lines += ["", f"Verdicts, on the row “{ours[0].title}”:" if ours else "", ""]
    lines += [
        "| claim | measured | |",
        "|---|---|---|",
        *(verdict.line() for verdict in judged),
        "",
    ]
    for slate in SLATES:
        lines += [f"## B = {slate:,} candidates", "", *table(rows, slate), ""]
    lines += [
        "Medians over the rounds, in brackets the smallest and the largest. `onnxruntime alone` at 8 at a time is the",
        "call from one thread for each core. Queries and method: `loadtest/peers/README.md`.",
        "",
        "![latency and throughput](peers.png)",
        "",
    ]
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """For each slate size: median latency one at a time and answers per second at 8; whiskers over the rounds."""
    mpl.use("agg")
    from matplotlib import pyplot  # after the backend is chosen: there may be no display

    shown = [row for row in rows if row.rounds][::-1]
    figure, grid = pyplot.subplots(2, len(SLATES), figsize=(12, 8), layout="constrained")
    kinds = ((ONE, "p50_ms", "p50 ms, one at a time"), (MANY, "per_s", "answers/s, 8 at a time"))
    for line, (concurrency, what, label) in zip(grid, kinds, strict=True):
        for axes, slate in zip(line, SLATES, strict=True):
            spreads = [spread(over_rounds(row, Cell(concurrency, slate), what)) for row in shown]
            middle = [s.median for s in spreads]
            whiskers = [
                [s.median - s.low for s in spreads],
                [s.high - s.median for s in spreads],
            ]
            colors = ["C1" if row.name.startswith("absorb") else "C0" for row in shown]
            axes.barh([row.title for row in shown], middle, xerr=whiskers, color=colors)
            axes.set(xlabel=label, title=f"B = {slate:,}")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
