"""Checks of the whole log: popularity and values that come from beyond the training events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from builder.audit.finding import Verdict
from builder.ingest.events import Events
from models.contract.schema import FIRST_KNOWN

POPULARITY = "popularity counted beyond training"
VALUES = "values taken from beyond training"


@dataclass(frozen=True)
class Check:
    """A check of the log.

    Attributes:
        name: unique; the recipe's `[[audit.allow]]` names it.
        part: part that was checked; empty: the whole log.
        found: number of wrong cases.
        checked: number of cases looked at.
        limit: largest share of wrong cases that passes.
        text: what was looked at and found, for a person.
        verdict: "fails", "allowed" or "passes".
        reason: why the recipe allows it.
    """

    name: str
    part: str
    found: int
    checked: int
    limit: float
    text: str
    verdict: Verdict = "passes"
    reason: str = ""

    @property
    def share(self) -> float:
        """Share of wrong cases; 0 if none was looked at."""
        return self.found / self.checked if self.checked else 0.0

    def judged(self) -> "Check":
        """The check with its own verdict."""
        return replace(self, verdict="fails" if self.share > self.limit else "passes")


def allowed_checks(checks: Iterable[Check], reasons: Mapping[str, str]) -> list[Check]:
    """Checks after the recipe's exceptions (name -> reason)."""
    return [
        replace(check, verdict="allowed", reason=reasons[check.name])
        if check.verdict == "fails" and check.name in reasons
        else check
        for check in checks
    ]


def log_checks(events: Events) -> list[Check]:
    """The checks that need no slates."""
    return [_popularity(events), _values(events)]


def _popularity(events: Events) -> Check:
    """An item's popularity must follow from the events that training may count, or from those before training."""
    fields, size = np.asarray(events.item_fields), len(events.item_fields)
    item, known = np.asarray(events.item), events.is_known()
    counts = np.bincount(item[known], minlength=size)
    is_wrong = np.asarray(events.train_popularity) != counts
    names = [field.name for field in events.schema.item_fields]
    if "popularity" in names:
        bucket = fields[:, names.index("popularity")]
        is_before = known & (np.asarray(events.ts_s) < events.split.train_from_s)
        before = np.bincount(item[is_before], minlength=size)
        is_wrong |= min((_differs(counts, bucket), _differs(before, bucket)), key=np.sum)
    wrong = int(is_wrong[FIRST_KNOWN:].sum())
    text = "items whose popularity does not follow from the training events"
    return Check(POPULARITY, "", wrong, size - FIRST_KNOWN, 0.0, text).judged()


def _differs(counts: NDArray[np.integer], bucket: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Items whose bucket is not the lowest of the items with the same count, [V]."""
    lowest = np.full(int(counts.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, counts[FIRST_KNOWN:], bucket[FIRST_KNOWN:])
    differs = bucket > lowest[counts]
    differs[:FIRST_KNOWN] = False
    return np.asarray(differs)


def _values(events: Events) -> Check:
    """A value with a dense id of its own must occur in what training may see."""
    late = {name: len(ids) for name, ids in _late_values(events).items()}
    schema = events.schema
    fields = (*schema.item_fields, *schema.user_fields, *schema.context_fields)
    checked = sum(field.size - FIRST_KNOWN for field in (*fields, *schema.candidate_fields))
    named = [f"{name} ({count:,})" for name, count in late.items() if count]
    text = "values that have an id of their own and are in no training event"
    text += f": {', '.join(named)}" if named else ""
    return Check(VALUES, "", sum(late.values()), checked, 0.0, text).judged()


def _late_values(events: Events) -> dict[str, NDArray[np.integer]]:
    """Field -> known ids that occur in the log, but in no event that training may see."""
    known, schema = events.is_known(), events.schema
    item, size = np.asarray(events.item), len(events.item_fields)
    seen_items = np.bincount(item[known], minlength=size) > 0
    used_items = np.bincount(item, minlength=size) > 0
    users = events.users()
    seen_users = np.bincount(users[known], minlength=events.num_users) > 0
    tables = (
        ("item", schema.item_fields, events.item_fields, used_items, seen_items),
        ("user", schema.user_fields, events.user_fields, seen_users | True, seen_users),
        ("context", schema.context_fields, events.context, known | True, known),
    )
    late = {}
    for kind, fields, table, used, seen in tables:
        for column, field in enumerate(fields):
            if field.name != "popularity":  # `_popularity` checks it
                ids = np.asarray(table)[:, column]
                late[f"{kind} {field.name}"] = _only_in(ids[used], ids[seen])
    return late | _late_candidate_values(events, known)


def _late_candidate_values(
    events: Events, known: NDArray[np.bool_]
) -> dict[str, NDArray[np.integer]]:
    pools, pool_of = events.pools, events.event_pool
    if pools is None or pool_of is None:
        return {}
    seen = np.zeros(len(pools.sizes), bool)
    seen[np.unique(pool_of[known & (np.asarray(pool_of) >= 0)])] = True
    is_seen = np.repeat(seen, pools.sizes)
    fields = events.schema.candidate_fields
    ids = [np.asarray(pools.fields)[:, column] for column in range(len(fields))]
    return {
        f"candidate {field.name}": _only_in(column, column[is_seen])
        for field, column in zip(fields, ids, strict=True)
    }


def _only_in(ids: NDArray[np.integer], others: NDArray[np.integer]) -> NDArray[np.integer]:
    only = np.setdiff1d(ids, others)
    return only[only >= FIRST_KNOWN]
