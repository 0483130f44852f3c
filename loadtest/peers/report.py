"""The page, the JSON and the plot of the figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import matplotlib as mpl

from loadtest.peers.cells import PAUSED, Cell
from loadtest.peers.queries import SLATES
from loadtest.peers.verdicts import (
    MANY,
    ONE,
    Row,
    bare_of,
    best_general,
    fastapi_of,
    over_rounds,
    overhead_ms,
    ratio,
    spread,
    verdicts,
)


@dataclass(frozen=True)
class Measurement:
    """All rows of one run.

    Attributes:
        cpu: name of the processor.
        facts: what else a reader needs to judge the figures.
        bares: calls in process, by the name of their row.
        ours: rows of this repository; the verdicts are on the first one, Absorb with its defaults.
        peers: rows of other servers.
    """

    cpu: str
    facts: Mapping[str, str]
    bares: Mapping[str, Row]
    ours: Sequence[Row]
    peers: Sequence[Row]

    @property
    def rows(self) -> list[Row]:
        """Every row, in the order of the table."""
        return [*self.bares.values(), *self.ours, *self.peers]


def page(measurement: Measurement) -> str:
    """The page `peers.md`."""
    lines = ["# Absorb beside other servers of the same model", ""]
    lines += [f"- {what}: {value}" for what, value in measurement.facts.items()]
    if measurement.ours:
        lines += ["", f"Verdicts, on the row “{measurement.ours[0].title}”, {measurement.cpu}:", ""]
        judged = verdicts(measurement.ours[0], measurement.bares, measurement.peers)
        lines += ["| claim | measured | |", "|---|---|---|", *(one.line() for one in judged)]
    on = f"on {measurement.cpu}"
    lines += ["", f"## Answers per second over those of others, {MANY} at a time, {on}", ""]
    lines += ratios_table(measurement)
    lines += [
        "",
        f"## p50 over the bare call, one at a time, {on}",
        "",
        *overhead_table(measurement),
    ]
    for slate in SLATES:
        lines += ["", f"## B = {slate:,} candidates, {on}", "", *table(measurement.rows, slate)]
    lines += [
        "",
        "Medians over the rounds, in brackets the smallest and the largest; ratios and differences are taken within",
        f"each round. A row “alone” is a call in process; at {MANY} at a time from one thread for each core.",
        "Queries and method: `loadtest/peers/README.md`.",
        "",
        "![latency and throughput](peers.png)",
        "",
    ]
    return "\n".join(lines)


def ratios_table(measurement: Measurement) -> list[str]:
    """Markdown lines: answers per second of each row of ours over the best general server's and bare FastAPI's."""
    heads, others = [], []
    for slate in SLATES:
        for name, other in (
            ("best general server", best_general(measurement.peers, slate)),
            ("bare FastAPI", fastapi_of(measurement.peers)),
        ):
            heads.append(f"B = {slate:,}, × {name}" + (f" ({other.title})" if other else ""))
            others.append((slate, other))
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for row in measurement.ours:
        got = [ratio(row, other, slate) for slate, other in others]
        cells = [one.text(2) if one else "no figures" for one in got]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return lines


def overhead_table(measurement: Measurement) -> list[str]:
    """Markdown lines: p50 of a whole request over the bare call of its engine; of the published graph for peers."""
    cells = (Cell(ONE, SLATES[0]), PAUSED, *(Cell(ONE, slate) for slate in SLATES[1:]))
    heads = [
        f"B = {cell.slate:,}, {f'pauses of {cell.pause_ms} ms' if cell.pause_ms else 'no pauses'}, ms"
        for cell in cells
    ]
    lines = [f"| | over | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for row in (*measurement.ours, *measurement.peers):
        bare = bare_of(row, measurement.bares)
        over = [overhead_ms(row, bare, cell) for cell in cells]
        if bare is not None and any(over):
            texts = [one.text(2) if one else "no figures" for one in over]
            lines.append(f"| {row.title} | {bare.title} | {' | '.join(texts)} |")
    return lines


def table(rows: Sequence[Row], slate: int) -> list[str]:
    """Markdown lines: medians over the rounds, with the smallest and the largest."""
    paused = f"p50 ms, pauses of {PAUSED.pause_ms} ms | " if slate == PAUSED.slate else ""
    head = (
        f"| | p50 ms, one at a time | p90 | p99 | answers/s | {paused}"
        f"p50 ms, {MANY} at a time | p99 | answers/s |"
    )
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for row in rows:
        if not row.rounds:
            empty = " |" * (head.count("|") - 3)
            lines.append(f"| {row.title} | no figures: {_on_one_line(row.problem)} |{empty}")
            continue
        one, many = Cell(ONE, slate), Cell(MANY, slate)
        cells = [
            spread(over_rounds(row, one, "p50_ms")).text(2),
            f"{median(over_rounds(row, one, 'p90_ms')):.2f}",
            f"{median(over_rounds(row, one, 'p99_ms')):.2f}",
            f"{median(over_rounds(row, one, 'per_s')):,.0f}",
            *([spread(over_rounds(row, PAUSED, "p50_ms")).text(2)] if paused else []),
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


def as_json(measurement: Measurement) -> str:
    """Every figure of every round, and the verdicts, as JSON."""
    rows = [{**asdict(row), "cpu": measurement.cpu} for row in measurement.rows]
    ours, bares, peers = measurement.ours, measurement.bares, measurement.peers
    judged = [asdict(one) for one in verdicts(ours[0], bares, peers)] if ours else []
    content = {
        "cpu": measurement.cpu,
        "facts": dict(measurement.facts),
        "verdicts": judged,
        "rows": rows,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def plot(measurement: Measurement, path: Path) -> None:
    """For each slate size: median latency one at a time and answers per second at 8; whiskers over the rounds."""
    mpl.use("agg")
    from matplotlib import pyplot  # after the backend is chosen: there may be no display

    shown = [row for row in measurement.rows if row.rounds][::-1]
    size = (13, 3 + 0.6 * len(shown))
    figure, grid = pyplot.subplots(2, len(SLATES), figsize=size, layout="constrained")
    figure.suptitle(measurement.cpu)
    kinds = (
        (ONE, "p50_ms", "p50 ms, one at a time"),
        (MANY, "per_s", f"answers/s, {MANY} at a time"),
    )
    for line, (concurrency, what, label) in zip(grid, kinds, strict=True):
        for axes, slate in zip(line, SLATES, strict=True):
            spreads = [spread(over_rounds(row, Cell(concurrency, slate), what)) for row in shown]
            middle = [s.median for s in spreads]
            whiskers = [
                [s.median - s.low for s in spreads],
                [s.high - s.median for s in spreads],
            ]
            colors = [_color(row, measurement) for row in shown]
            axes.barh([row.title for row in shown], middle, xerr=whiskers, color=colors)
            axes.set(xlabel=label, title=f"B = {slate:,}")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _color(row: Row, measurement: Measurement) -> str:
    if row.name in measurement.bares:
        return "C7"
    return "C1" if row in measurement.ours else "C0"
