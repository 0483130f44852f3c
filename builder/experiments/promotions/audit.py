"""Leak audit: does a rule that any model can compute give the label away?

Each rule is counted over whole pools of sampled visits of each part: its candidates, the share of them that was bought,
and the interval of that share. A rule fails if it covers 1 % of all candidates or of all positives, and its candidates
are nearly all of one class: 95 % or more were bought; or, since only one of some 1,000 candidates is bought, they were
bought less than a hundredth as often as all candidates (upper end of the interval). Rules whose candidates are all of
one class are shown, too.
"""

import json
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from builder.experiments.promotions.evaluation import visits_of
from builder.experiments.promotions.prepared import PARTS, VALIDATION_WEEK, Prepared

SUPPORT, NEARLY_ALL, NEARLY_NONE = 0.01, 0.95, 0.01
Z = 1.96
VISITS = 4000
"""Sampled visits of each part. With 1,500 the interval of a rule that covers a tenth of the candidates is too wide to
fail a rule without positives."""
COUNTS = (1, 2, 3, 5, 10)
UNKNOWN = "item unknown before validation"
AGE_HOURS = (24, 24 * 7, 24 * 28, 24 * 91)


@dataclass(frozen=True)
class Rule:
    """A rule in a part.

    Attributes:
        part: "train", "validation" or "test".
        name: of the rule.
        candidates: it holds for.
        positives: of these.
        low: end of the 95 % interval (Wilson) of the share of positives.
        high: the other end.
        support: share of all candidates.
        covers: share of all positives.
        lift: share of positives over that of all candidates.
        fails: see the module.
    """

    part: str
    name: str
    candidates: int
    positives: int
    low: float
    high: float
    support: float
    covers: float
    lift: float
    fails: bool

    @property
    def share(self) -> float:
        """Of positives."""
        return self.positives / max(self.candidates, 1)


def audit(prepared: Prepared, visits: int = VISITS) -> list[Rule]:
    """All rules in all parts, over `visits` sampled visits of each."""
    rules = []
    known = np.zeros(len(prepared.item_fields), bool)
    first = prepared.hour[prepared.week >= VALIDATION_WEEK]
    early = prepared.event_hour < (first.min() if len(first) else 1 << 14)
    known[prepared.event_row[early]] = True
    for part in PARTS:
        tally: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(2, np.int64))
        for visit in visits_of(prepared, part, visits):
            label = prepared.labels_of(int(visit))
            for name, holds in _rules(prepared, int(visit), known).items():
                # In training an item that was bought is known by that purchase: the rule would hold by definition.
                if part != "train" or name != UNKNOWN:
                    tally[name] += (int(holds.sum()), int((holds & label).sum()))
        rules += _judge(part, tally)
    return rules


def _rules(
    prepared: Prepared, visit: int, known: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """For which of the visit's candidates each rule holds."""
    here = prepared.pool_of(visit)
    rows = prepared.pool_row[here]
    events = slice(int(prepared.start[visit]), int(prepared.end[visit]))
    bought = prepared.event_row[events]
    times = np.bincount(bought, minlength=len(prepared.item_fields))
    categories = prepared.item_fields[:, 1]
    seen = np.bincount(categories[bought], minlength=int(categories.max()) + 1) > 0
    latest = np.full(len(prepared.item_fields), -1, np.int64)
    latest[bought] = prepared.event_hour[events]  # of equal rows the last one, which is the latest
    count, hours = times[rows], int(prepared.hour[visit]) - latest[rows]
    rules = {
        "all": np.ones(len(rows), bool),
        "item in history": count > 0,
        "item not in history": count == 0,
        "category in history": seen[categories[rows]],
        "category not in history": ~seen[categories[rows]],
        UNKNOWN: ~known[rows],
        "item never sold before training": prepared.item_fields[rows, 4] == 1,
    }
    for low, high in zip(COUNTS, (*COUNTS[1:], 1 << 30), strict=True):
        rules[
            f"item bought {low} to {high - 1} times"
            if high < 1 << 30
            else f"item bought {low} times or more"
        ] = (count >= low) & (count < high)
    for low, high in zip((0, *AGE_HOURS), (*AGE_HOURS, 1 << 30), strict=True):
        name = (
            f"item last bought {low} to {high} h ago"
            if high < 1 << 30
            else f"item last bought {low} h ago or more"
        )
        rules[name] = (count > 0) & (hours >= low) & (hours < high)
    for code in range(int(prepared.pool_display.max()) + 1):
        rules[f"display {code}"] = prepared.pool_display[here] == code
    for code in range(int(prepared.pool_mailer.max()) + 1):
        rules[f"mailer {code}"] = prepared.pool_mailer[here] == code
    for name, begin in (("first", 0.0), ("last", 0.9)):
        place = np.arange(len(rows)) / max(len(rows), 1)
        rules[f"{name} tenth of the pool"] = (place >= begin) & (place < begin + 0.1)
    return rules


def _judge(part: str, tally: dict[str, NDArray[np.int64]]) -> list[Rule]:
    everything, positives = (int(value) for value in tally["all"])
    base = positives / max(everything, 1)
    rules = []
    for name, values in tally.items():
        count, bought = int(values[0]), int(values[1])
        low, high = wilson(bought, count)
        support, covers = count / max(everything, 1), bought / max(positives, 1)
        share = bought / max(count, 1)
        is_one_class = share >= NEARLY_ALL or high <= NEARLY_NONE * base
        rules.append(
            Rule(
                part,
                name,
                count,
                bought,
                low,
                high,
                support,
                covers,
                share / base if base else math.nan,
                fails=name != "all" and max(support, covers) >= SUPPORT and is_one_class,
            )
        )
    return rules


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share; (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    p, z = hits / trials, Z * Z / trials
    middle = (p + z / 2) / (1 + z)
    half = Z * math.sqrt(p * (1 - p) / trials + z / (4 * trials)) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


def write_audit(rules: list[Rule], prepared: Prepared, out: Path) -> str:
    """audit.md and audit.json in `out`; return the Markdown."""
    size = np.diff(prepared.pool_first)[prepared.pool]
    bought = np.diff(prepared.positive_first)
    lines = [
        f"{len(bought):,} visits, {int((bought > 0).sum()):,} of them with a purchase from their pool "
        f"({bought.sum() / max((bought > 0).sum(), 1):.2f} products on average); pools of {size.mean():,.0f} products, "
        f"{size.max():,} at most.",
        "",
        "| part | rule | candidates | covers of candidates | of positives | bought | 95 % | lift | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.part} | {r.name} | {r.candidates:,} | {r.support:.2%} | {r.covers:.1%} | {r.share:.4%} | "
        f"{r.low:.4%} to {r.high:.4%} | {r.lift:.3g} | {'**fails**' if r.fails else ''} |"
        for r in rules
    ]
    text = "\n".join(lines) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "audit.md").write_text(text)
    (out / "audit.json").write_text(json.dumps([asdict(rule) for rule in rules], indent=1))
    return text
