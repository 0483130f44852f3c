"""The page of a simulation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builder.evaluate.intervals import Interval
from builder.experiments.days.plot import plot_days
from builder.experiments.days.policies import DRIFTS, FOLDED, FULL, KEPT, POLICIES, WARM
from builder.experiments.days.summary import Row, Scores, days_of, load_scores, rows_of
from builder.experiments.report.markdown import markdown_table, write_report

HEADINGS = (
    "policy",
    "seeds",
    "GAUC per slate",
    "… less no retrain",
    "AUC within days",
    "… less no retrain",
    "log loss",
    "… less no retrain",
    "PCOC",
    "processor minutes a night",
)


def write_days(results: Path, out: Path, command: str) -> list[Path]:
    """Write the page, its numbers and its plot; return their paths.

    Args:
        results: folder of finished scores.
        out: folder to write.
        command: that made the scores.
    """
    scores = load_scores(results)
    core = [set(days_of(scores, policy, of_all=True)) for policy in (KEPT, WARM, FOLDED)]
    days = sorted(set.intersection(*core)) or days_of(scores, KEPT)
    # On the first day all policies serve the same weights.
    of_all = [day for day in days_of(scores, FULL, of_all=True) if day > 1]
    of_some = [day for day in days_of(scores, FULL) if day > 1]
    titles = {
        f"Days {_named(days)}:": days,
        f"Days after nights with a full retrain of every seed ({_named(of_all)}):": of_all,
        f"Days after nights with a full retrain of any seed ({_named(of_some)}):": of_some,
    }
    chosen: dict[str, list[int]] = {}
    for title, some in titles.items():
        if some and some not in chosen.values():
            chosen[title] = some
    tables = {title: rows_of(scores, some) for title, some in chosen.items()}
    out.mkdir(parents=True, exist_ok=True)
    picture = plot_days(scores, out / "days.png")
    text = [
        "# Simulated days",
        "",
        f"Made by `{command}`.",
        "",
    ]
    for title, rows in tables.items():
        text += [title, "", *_table(rows), ""]
    text += [
        "Intervals are 95%, over users and seeds (users alone where there is one seed); differences are paired by user "
        "and seed. PCOC is that of the logits as trained, without the calibration that a build fits; its intervals are "
        "over days (jackknife). "
        "Training of the first night is common to all and not counted.",
        "",
        "![GAUC, log loss and PCOC by day](days.png)",
        "",
        "## Drift between generations",
        "",
        *_drifts(scores),
        "",
    ]
    numbers = {title: [_plain(row) for row in rows] for title, rows in tables.items()}
    return [*write_report(out, "days", "\n".join(text), numbers), picture]


def _named(days: Sequence[int]) -> str:
    return ", ".join(str(day) for day in days)


def _table(rows: Sequence[Row]) -> list[str]:
    return markdown_table(HEADINGS, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    own, apart = row.own, row.over_kept
    is_kept = row.policy.name == KEPT.name
    return [
        row.policy.title,
        str(len(row.seeds)),
        _value(own.get("slate_gauc"), 4),
        "" if is_kept else _signed(apart.get("slate_gauc"), 4),
        _value(own.get("auc"), 4),
        "" if is_kept else _signed(apart.get("auc"), 4),
        _value(own.get("log_loss"), 5),
        "" if is_kept else _signed(apart.get("log_loss"), 5),
        f"{row.pcoc:.2f}" + ("" if row.pcoc_half is None else f" ± {row.pcoc_half:.2f}"),
        f"{row.minutes:.1f}" if row.minutes else "0",
    ]


def _value(one: Interval | None, digits: int) -> str:
    return "" if one is None else f"{one.mean:.{digits}f} ± {one.half:.{digits}f}"


def _signed(one: Interval | None, digits: int) -> str:
    return "" if one is None else f"{one.mean:+.{digits}f} ± {one.half:.{digits}f}"


def _drifts(scores: Scores) -> list[str]:
    titles = {policy.name: policy.title for policy in POLICIES}
    names = ("rank_distance", "log_odds", "state", "pcoc")
    rows = []
    for mine, other in DRIFTS:
        found: dict[int, list[dict[str, Any]]] = {}
        for (policy, _, day), one in scores.items():
            if policy == mine and day > 1 and other in one["drift"]:
                found.setdefault(day, []).append(one["drift"][other])
        for day in sorted(found)[:: max(1, len(found) // 3)]:
            means = [np.mean([one[name] for one in found[day]]) for name in names]
            cells = [f"{means[0]:.3f}", f"{means[1]:.2f}", f"{means[2]:.2f}", f"{means[3]:.2f}"]
            rows.append([f"{titles[mine]}, against {titles[other]}", str(day), *cells])
    headings = (
        "generations",
        "day",
        "rank distance",
        "difference of log odds",
        "difference of states",
        "ratio of PCOC",
    )
    return markdown_table(headings, rows)


def _plain(row: Row) -> dict[str, Any]:
    def values(intervals: dict[str, Interval]) -> dict[str, list[float]]:
        return {name: [one.mean, one.half] for name, one in intervals.items()}

    return {
        "policy": row.policy.name,
        "seeds": list(row.seeds),
        "own": values(row.own),
        "over_kept": values(row.over_kept),
        "pcoc": row.pcoc,
        "pcoc_half": row.pcoc_half,
        "minutes": row.minutes,
    }
