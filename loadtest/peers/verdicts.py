"""What the figures say: time over the bare call, ratios to the other servers, and whether the claims are met."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from loadtest.peers.bench import Figures
from loadtest.peers.cells import CONCURRENCIES, PAUSED, Cell
from loadtest.peers.queries import SLATES
from loadtest.peers.servers import BARE, bare_row

MAX_OVERHEAD_MS = 0.5
"""Largest p50 of a whole request over the bare call of the same engine, at the smaller B, one at a time."""
MIN_GENERAL = 3.0
"""Smallest ratio of answers per second to the best general server, at the highest concurrency."""
MIN_FASTAPI = 2.0
"""Smallest ratio of answers per second to bare FastAPI."""
ONE, MANY = min(CONCURRENCIES), max(CONCURRENCIES)
FASTAPI = "fastapi"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: name of its results.
        title: title with the engine and the chosen number of workers.
        is_general: a general server, which Absorb's throughput must beat by `MIN_GENERAL`.
        rounds: figures of each round; empty if it failed.
        problem: reason of a failure; empty: none.
        engine: engine of the service that scored; None: another server, or not known.
    """

    name: str
    title: str
    is_general: bool
    rounds: Sequence[Figures]
    problem: str = ""
    engine: str | None = None


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest value over the rounds."""

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """Text for a table."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


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


def bare_of(row: Row, bares: Mapping[str, Row]) -> Row | None:
    """The bare call that a server's time is compared with: of its engine, or of the published graph for a peer."""
    if not row.name.startswith("absorb"):
        return bares.get(BARE)
    return bares.get(bare_row(row.engine)) if row.engine else None


def overhead_ms(row: Row, bare: Row | None, cell: Cell) -> Spread | None:
    """p50 of a whole request minus p50 of the bare call of the same round; None without figures."""
    if bare is None:
        return None
    whole, alone = (over_rounds(one, cell, "p50_ms") for one in (row, bare))
    differences = [mine - theirs for mine, theirs in zip(whole, alone, strict=False)]
    return spread(differences) if differences else None


def best_general(others: Sequence[Row], slate: int) -> Row | None:
    """The general server with the most answers per second at the highest concurrency, by its median."""
    general = [row for row in others if row.is_general and row.rounds]
    cell = Cell(MANY, slate)
    return max(general, key=lambda row: median(over_rounds(row, cell, "per_s")), default=None)


def fastapi_of(others: Sequence[Row]) -> Row | None:
    """The row of bare FastAPI; None if it has no figures."""
    return next((row for row in others if row.name == FASTAPI and row.rounds), None)


def ratio(row: Row, other: Row | None, slate: int) -> Spread | None:
    """Answers per second at the highest concurrency over another row's of the same round; None without figures."""
    if other is None:
        return None
    cell = Cell(MANY, slate)
    mine, theirs = (over_rounds(one, cell, "per_s") for one in (row, other))
    ratios = [a / b for a, b in zip(mine, theirs, strict=False)]
    return spread(ratios) if ratios else None


def verdicts(ours: Row, bares: Mapping[str, Row], others: Sequence[Row]) -> list[Verdict]:
    """The claims on overhead and throughput for one row of ours."""
    bare = bare_of(ours, bares)
    judged = [_overhead(ours, bare, cell) for cell in (Cell(ONE, PAUSED.slate), PAUSED)]
    for slate in SLATES:
        general = best_general(others, slate)
        judged.append(_ratio(ours, general, slate, MIN_GENERAL, "the best general server"))
        judged.append(_ratio(ours, fastapi_of(others), slate, MIN_FASTAPI, "bare FastAPI"))
    return judged


def _overhead(ours: Row, bare: Row | None, cell: Cell) -> Verdict:
    pause = f"pauses of {cell.pause_ms} ms" if cell.pause_ms else "no pauses"
    claim = (
        f"B = {cell.slate:,}, one at a time, {pause}: p50 of a whole request over the bare engine call "
        f"≤ {MAX_OVERHEAD_MS:g} ms"
    )
    over = overhead_ms(ours, bare, cell)
    if over is None or bare is None:
        return Verdict(claim, "no figures", None)
    measured = f"{over.text(2)} ms over {bare.title}"
    return Verdict(claim, measured, over.median <= MAX_OVERHEAD_MS)


def _ratio(ours: Row, other: Row | None, slate: int, least: float, name: str) -> Verdict:
    claim = f"B = {slate:,}, {MANY} at a time: answers/s ≥ {least:g} × {name}"
    got = ratio(ours, other, slate)
    if got is None or other is None:
        return Verdict(claim, "no figures", None)
    return Verdict(claim, f"{got.text(2)} × {other.title}", got.median >= least)
