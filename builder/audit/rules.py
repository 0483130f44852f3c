"""The rules: questions that any model can answer about a target, each dividing the targets into groups."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from builder.audit.view import Ints, View
from builder.ingest.events import Events
from models.contract.age import age_buckets
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN, Field

IN_HISTORY, UNKNOWN_ITEM = "item in history", "item unknown to training"
YES = 1
NO_YES = ("no", "yes")
COUNTS = (1, 2, 3, 5, 10)
LENGTHS = (0, 1, 10, 50, 200, 500)
AGES = (
    "under half a minute",
    "up to 1 hour",
    "up to 1 day",
    "1 to 8 days",
    "8 to 32 days",
    "32 to 91 days",
    "over 91 days",
)
AGE_EDGES_S = (20, 3_600, 86_400, 8 * 86_400, 32 * 86_400, 91 * 86_400)
"""Just below the ends of age buckets (`models/contract/age.py`), so that no bucket belongs to two groups."""
PLACES = 5
TENTHS = tuple(f"tenth {place} of 10" for place in range(1, 11))
NOT_APPLICABLE = -1
"""Group of a target that a rule says nothing of."""


@dataclass(frozen=True)
class Rule:
    """A question about a target.

    Attributes:
        name: unique; the recipe's `[[audit.allow]]` names it.
        groups: texts of its answers.
        answer: place of each target's answer in `groups`, `NOT_APPLICABLE` for none, [N].
        within: a group of another rule, "rule: group", that holds all targets of this rule. Where that group fails,
            the groups of this rule follow from it and are not reported as failures of their own.
        only: the group that this holds for; empty: every group.
    """

    name: str
    groups: Sequence[str]
    answer: Callable[[View], Ints]
    within: str = ""
    only: str = ""

    def within_of(self, group: str) -> str:
        """The group of another rule that holds a group's targets; empty for none."""
        return self.within if self.only in ("", group) else ""


def match_keys(events: Events) -> dict[str, NDArray[np.integer]]:
    """Name of each item field except popularity -> key of every catalogue row, [V]; equal keys match."""
    fields = np.asarray(events.item_fields)
    keys: dict[str, NDArray[np.integer]] = {"item": np.arange(len(fields))}
    for column, field in enumerate(events.schema.item_fields):
        if column and field.name != "popularity":
            keys[field.name] = fields[:, column]
    return keys


def make_rules(events: Events) -> list[Rule]:
    """All rules that apply to a log."""
    return [
        *_history_rules(events),
        *_item_rules(events),
        *_place_rules(events),
        *_field_rules(events),
        _known_users(events),
    ]


def _history_rules(events: Events) -> Iterator[Rule]:
    for place, name in enumerate(match_keys(events)):
        yield Rule(f"{name} in history", NO_YES, _has_match(place))
    inside = f"{IN_HISTORY}: {NO_YES[YES]}"
    yield Rule(
        "times that the item is in history",
        _ranges(COUNTS),
        lambda view: _bucket(COUNTS, view.counts[:, 0]),
        inside,
    )
    edges = age_buckets(np.array(AGE_EDGES_S)) + 1

    def age(view: View) -> Ints:
        group = np.searchsorted(edges, view.age, side="right")
        return np.where(view.age == PADDING, NOT_APPLICABLE, group)

    yield Rule("age of the latest event with the item", AGES, age, inside)
    yield Rule(
        "events in the history", _ranges(LENGTHS), lambda view: _bucket(LENGTHS, view.length)
    )


def _has_match(place: int) -> Callable[[View], Ints]:
    return lambda view: (view.counts[:, place] > 0).astype(np.int64)


def _item_rules(events: Events) -> Iterator[Rule]:
    fields = np.asarray(events.item_fields)
    is_unknown = (fields[:, 0] == UNKNOWN).astype(np.int64)
    yield Rule(UNKNOWN_ITEM, NO_YES, lambda view: is_unknown[view.item])
    yield _popularity_rule(events, is_unknown)
    for column, field in enumerate(events.schema.item_fields):
        if field.name != "popularity":
            known = events.item_values.get(field.name, [])
            name = f"item {field.name}" if column else "item id"
            inside = f"{UNKNOWN_ITEM}: {NO_YES[YES]}" if column == 0 else ""
            yield Rule(name, _texts(field, known), _column_of(fields, column), inside, "unknown")
    rows = len(fields) - FIRST_KNOWN

    def row_tenth(view: View) -> Ints:
        return _tenth(np.maximum(view.item - FIRST_KNOWN, 0), np.full(len(view), rows))

    yield Rule("order of item rows", TENTHS, row_tenth)


def _popularity_rule(events: Events, is_unknown: Ints) -> Rule:
    """Popularity as models read it, or the training events of an item where it is no field."""
    fields, names = np.asarray(events.item_fields), [f.name for f in events.schema.item_fields]
    if "popularity" in names:
        column = names.index("popularity")
        bucket = np.maximum(fields[:, column] - FIRST_KNOWN, 0)
    else:
        bucket = np.ceil(np.log2(np.asarray(events.train_popularity) + 1))
    bucket = bucket.astype(np.int64)
    texts = _ranges([0, *(1 << power for power in range(int(bucket.max())))])
    without = (bucket[FIRST_KNOWN:] == 0) & (is_unknown[FIRST_KNOWN:] == 0)
    inside = "" if without.any() else f"{UNKNOWN_ITEM}: {NO_YES[YES]}"
    return Rule("popularity of the item", texts, lambda view: bucket[view.item], inside, texts[0])


def _column_of(fields: NDArray[np.integer], column: int) -> Callable[[View], Ints]:
    return lambda view: fields[view.item, column].astype(np.int64)


def _place_rules(events: Events) -> Iterator[Rule]:
    """Places of targets that the log itself orders. No model reads the place of a drawn negative."""
    if events.pools is not None:
        yield Rule("position in the pool", TENTHS, lambda view: _tenth(view.place, view.size))
    if not events.has_impressions:
        return
    names = (*(str(place + 1) for place in range(PLACES)), f"after {PLACES}", "last")

    def place(view: View) -> Ints:
        is_last = (view.place == view.size - 1) & (view.size > 1)
        return np.where(is_last, PLACES + 1, np.minimum(view.place, PLACES))

    yield Rule("position in the slate", names, place)


def _field_rules(events: Events) -> Iterator[Rule]:
    schema, vocabulary = events.schema, events.vocabulary
    for place, field in enumerate(schema.context_fields):
        texts = _texts(field, vocabulary.context.get(field.name, []))
        yield Rule(f"context {field.name}", texts, _of("context", place))
    for place, field in enumerate(schema.user_fields):
        texts = _texts(field, vocabulary.user.get(field.name, []))
        yield Rule(f"user {field.name}", texts, _of("profile", place))
    for place, field in enumerate(schema.candidate_fields):
        texts = _texts(field, vocabulary.candidate.get(field.name, []))
        yield Rule(f"candidate {field.name}", texts, _of("candidate", place))


def _of(kind: str, place: int) -> Callable[[View], Ints]:
    def answer(view: View) -> Ints:
        ids: Ints = getattr(view, kind)
        return ids[:, place]

    return answer


def _known_users(events: Events) -> Rule:
    ends = np.asarray(events.offsets)
    before = np.concatenate([[0], np.cumsum(events.is_known())])
    is_known = (before[ends[1:]] > before[ends[:-1]]).astype(np.int64)
    return Rule("user in training", NO_YES, lambda view: is_known[view.user])


def _texts(field: Field, known: Sequence[str]) -> list[str]:
    """What each dense id of a field stands for."""
    texts = ["padding", "unknown", *known]
    return [*texts, *(f"id {place}" for place in range(len(texts), field.size))]


def _ranges(lows: Sequence[int]) -> list[str]:
    """Texts of ranges of whole numbers that begin at `lows`; the last one has no end."""
    ends = [low - 1 for low in lows[1:]]
    texts = [
        f"{low:,}" if low == end else f"{low:,} to {end:,}"
        for low, end in zip(lows, ends, strict=False)
    ]
    return [*texts, f"{lows[-1]:,} or more"]


def _bucket(lows: Sequence[int], values: Ints) -> Ints:
    """Range of each value; `NOT_APPLICABLE` below the first."""
    return np.asarray(np.searchsorted(np.array(lows), values, side="right") - 1)


def _tenth(place: Ints, size: Ints) -> Ints:
    return np.asarray(np.minimum(place * 10 // np.maximum(size, 1), 9))
