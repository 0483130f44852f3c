"""Percentiles, verdict, table and plot of measured latencies."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from loadtest.scenarios import Scenario

PERMILLES = (500, 900, 950, 990, 999)
"""Whole numbers, because 0.999 × 1000 as floats is above 999 and would select the wrong request."""


COLUMNS = ("scenario", "requests", "per second", "p50 ms", "p99 ms", "limit ms", "verdict")


@dataclass(frozen=True)
class Samples:
    """Measurements of one run, one entry per request.

    Attributes:
        latency_ms: latencies from sending (closed loop) or from the due time (open loop).
        due_s: seconds from the start at which each request was sent (closed loop) or due (open loop).
        failures: error text -> count.
        elapsed_s: seconds from the first request to the last answer.
    """

    latency_ms: NDArray[np.float64]
    due_s: NDArray[np.float64]
    failures: dict[str, int]
    elapsed_s: float

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Samples":
        """Read the file that the locust file wrote."""
        return cls(
            np.asarray(fields["latency_ms"], np.float64),
            np.asarray(fields["due_s"], np.float64),
            fields["failures"],
            fields["elapsed_s"],
        )


def percentiles(latency_ms: NDArray[np.float64]) -> dict[str, float]:
    """Nearest-rank percentiles ("p50", …), each a measured latency; also "max" and "mean"."""
    ranked = np.sort(latency_ms)
    named = {
        f"p{permille / 10:g}": float(ranked[-(-permille * len(ranked) // 1000) - 1])
        for permille in PERMILLES
    }
    return {**named, "max": float(ranked[-1]), "mean": float(ranked.mean())}


def judge(scenario: Scenario, samples: Samples) -> list[str]:
    """The reasons why the run fails, one sentence each; empty if it passes."""
    if not len(samples.latency_ms):
        return ["no request was answered"]
    problems = [f"{count} requests failed: {text}" for text, count in samples.failures.items()]
    p99 = percentiles(samples.latency_ms)["p99"]
    if p99 > scenario.p99_ms:
        problems.append(f"p99 is {p99:.1f} ms, the limit is {scenario.p99_ms:g} ms")
    if scenario.rate_per_s is not None:
        due = round(scenario.rate_per_s * scenario.duration_s)
        if len(samples.latency_ms) != due:
            problems.append(f"{len(samples.latency_ms)} requests were answered, {due} were due")
    return problems


def summarise(scenario: Scenario, samples: Samples) -> dict[str, Any]:
    """Summary of the run as JSON."""
    problems = judge(scenario, samples)
    answered = len(samples.latency_ms)
    return {
        "scenario": scenario.name,
        "loop": "closed" if scenario.users is not None else "open",
        "users": scenario.users,
        "rate_per_s": scenario.rate_per_s,
        "duration_s": scenario.duration_s,
        "requests": answered,
        "failures": samples.failures,
        "answered_per_s": answered / samples.elapsed_s if answered else 0.0,
        "latency_ms": percentiles(samples.latency_ms) if answered else {},
        "p99_limit_ms": scenario.p99_ms,
        "is_met": not problems,
        "problems": problems,
    }


def table(summaries: list[dict[str, Any]]) -> Table:
    """Table for a terminal, one row for each run."""
    shown = Table(title="Load test")
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column in ("scenario", "verdict") else "right")
    for summary in summaries:
        shown.add_row(*_cells(summary))
    return shown


def markdown(summaries: list[dict[str, Any]], facts: Mapping[str, str]) -> str:
    """The same table as Markdown, under what made it: name of a fact -> its text."""
    lines = ["# Load test", "", *(f"- {name}: {text}" for name, text in facts.items()), ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(_cells(summary))} |" for summary in summaries]
    return "\n".join(lines) + "\n"


def _cells(summary: dict[str, Any]) -> list[str]:
    latency = summary["latency_ms"]
    users, rate = summary["users"], summary["rate_per_s"]
    load = f"{users} users" if users is not None else f"{rate:g} requests/s"
    return [
        f"{summary['scenario']}, {load}",
        f"{summary['requests']:,}",
        f"{summary['answered_per_s']:.1f}",
        *(f"{latency[p]:.1f}" if latency else "-" for p in ("p50", "p99")),
        f"{summary['p99_limit_ms']:g}",
        "met" if summary["is_met"] else "; ".join(summary["problems"]),
    ]


def plot(runs: list[tuple[Scenario, Samples]], path: Path) -> None:
    """Plot latency by percentile and over time, one colour per scenario, limits dashed."""
    mpl.use("agg")
    from matplotlib import pyplot  # after the backend is chosen: there may be no display

    figure, (by_rank, by_time) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for number, (scenario, samples) in enumerate(runs):
        latency = np.sort(samples.latency_ms)
        # Share of requests that are at least as slow.
        beyond = 1 - np.arange(len(latency)) / max(len(latency), 1)
        color = f"C{number}"
        by_rank.loglog(1 / beyond, latency, color=color, label=scenario.name)
        by_rank.axhline(scenario.p99_ms, color=color, linestyle="--", linewidth=1)
        by_time.semilogy(samples.due_s, samples.latency_ms, ".", color=color, markersize=3)
    by_rank.set_xticks([1, 2, 10, 100, 1000], ["0", "p50", "p90", "p99", "p99.9"])
    by_rank.minorticks_off()
    for axes in (by_rank, by_time):
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    by_rank.set(xlabel="percentile (dashed: limit of p99)", ylabel="latency, ms")
    by_time.set(xlabel="seconds", ylabel="latency, ms")
    by_rank.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
