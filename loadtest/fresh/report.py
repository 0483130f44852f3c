"""The results of `absorb bench-fresh` as JSON, a page and a plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from loadtest.fresh.latency import LOOK_EVERY_S, PROBES_PER_S, Freshness
from loadtest.fresh.throughput import Throughput

mpl.use("Agg")
TITLE = "# Fresh states"
P50_MS, P99_MS = 100.0, 500.0
"""Targets."""


def write_report(
    out: Path, about: dict[str, Any], fresh: Freshness | None, workers: Sequence[Throughput]
) -> None:
    """Write `fresh.json`, `fresh.md`, and with times of probes `fresh.png`.

    Args:
        out: folder; created if it does not exist.
        about: machine, commit, artifact and rates.
        fresh: times of probes; None: only folders were measured.
        workers: throughput of each folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    probes = None if fresh is None else asdict(fresh)
    content = {**about, "fresh": probes, "workers": [asdict(one) for one in workers]}
    (out / "fresh.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "fresh.md").write_text(page(about, fresh, workers))
    if fresh is not None:
        _plot(out / "fresh.png", fresh)


def page(about: dict[str, Any], fresh: Freshness | None, workers: Sequence[Throughput]) -> str:
    """The page."""
    head = (
        f"{about['machine']}; commit {about['commit']}; artifact {about['artifact']}, {about['users']} users with full "
        f"histories of {about['history']} events. Service, worker, cache and the client share the machine."
    )
    probed = [] if fresh is None else _probed(fresh)
    folded = ["| folder | events/s | users folded/s | events | seconds |", "|---|---|---|---|---|"]
    folded += [
        f"| {one.folder} | {one.per_s:.0f} | {one.users / one.seconds:.0f} | {one.events} | {one.seconds:.1f} |"
        for one in workers
    ]
    alone = "One worker on one core, from a full stream, with nothing beside it but the cache:"
    return "\n\n".join([TITLE, head, *probed, alone, "\n".join(folded)]) + "\n"


def _probed(fresh: Freshness) -> list[str]:
    """The paragraphs about freshness."""
    rate = len(fresh.event_ms) / fresh.duration_s + PROBES_PER_S
    note = (
        f"{fresh.duration_s:.0f} s at {rate:.0f} events/s, each a `POST /v1/events` of its own, beside "
        f"{len(fresh.score_ms) / fresh.duration_s:.0f} score requests/s of 50 candidates. {PROBES_PER_S} times a "
        "second a user whose record is in the service's memory gets an event, and is scored every "
        f"{1000 * LOOK_EVERY_S:.0f} ms until the scores differ, which adds load."
    )
    rows = [
        ("event to changed score, ms", [1000 * value for value in fresh.seconds]),
        ("POST /v1/events, ms", fresh.event_ms),
        ("POST /v1/score, ms", fresh.score_ms),
    ]
    table = ["| what | number | p50 | p90 | p99 | longest |", "|---|---|---|---|---|---|"]
    table += [_row(name, values) for name, values in rows]
    verdict = (
        f"Targets: p50 below {P50_MS:.0f} ms and p99 below {P99_MS:.0f} ms: "
        f"{'met' if is_met(fresh) else 'missed'}. Probes without a changed score in 10 s: {fresh.lost}; "
        f"failed requests: {fresh.failed}."
    )
    picture = "![Times from event to changed score](fresh.png)"
    return [note, "\n".join(table), verdict, picture]


def is_met(fresh: Freshness) -> bool:
    """Whether the times meet both targets, and every probe saw its event."""
    if not fresh.seconds or fresh.lost:
        return False
    p50, p99 = 1000 * np.percentile(fresh.seconds, [50, 99])
    return bool(p50 < P50_MS and p99 < P99_MS)


def _row(name: str, values: Sequence[float]) -> str:
    if not values:
        return f"| {name} | 0 | | | | |"
    shown = " | ".join(f"{value:.1f}" for value in np.percentile(values, [50, 90, 99, 100]))
    return f"| {name} | {len(values)} | {shown} |"


def _plot(path: Path, fresh: Freshness) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2))
    values = np.sort(1000 * np.array(fresh.seconds or [0.0]))
    axes.step(values, np.arange(1, len(values) + 1) / len(values), where="post")
    for target, share in ((P50_MS, 0.5), (P99_MS, 0.99)):
        axes.plot([target], [share], "o", color="tab:red")
    axes.set_xscale("log")
    axes.set_xlabel("ms from POST /v1/events to a changed score (red: targets)")
    axes.set_ylabel("share of events")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
