"""The rules: questions that any model can answer about a target, each dividing the targets into groups."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from builder.audit.view import Ints, View
from builder.ingest.events import Events
from models.contract.age import age_buckets
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN, Field

IN_HISTORY = "item in history"
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
PLACES = 10
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
    """

    name: str
    groups: Sequence[str]
    answer: Callable[[View], Ints]
    within: str = ""


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
    fields, popularity = np.asarray(events.item_fields), np.asarray(events.train_popularity)
    is_unknown = (fields[:, 0] == UNKNOWN).astype(np.int64)
    yield Rule("item unknown to training", NO_YES, lambda view: is_unknown[view.item])
    bucket = np.ceil(np.log2(popularity + 1)).astype(np.int64)
    lows = [0, *(1 << power for power in range(int(bucket.max())))]
    yield Rule("training events of the item", _ranges(lows), lambda view: bucket[view.item])
    for column, field in enumerate(events.schema.item_fields):
        if field.name != "popularity":
            known = events.item_values.get(field.name, [])
            name = f"item {field.name}" if column else "item id"
            yield Rule(name, _texts(field, known), _column_of(fields, column))
    rows = len(fields) - FIRST_KNOWN

    def row_tenth(view: View) -> Ints:
        return _tenth(np.maximum(view.item - FIRST_KNOWN, 0), np.full(len(view), rows))

    yield Rule("order of item rows", TENTHS, row_tenth)


def _column_of(fields: NDArray[np.integer], column: int) -> Callable[[View], Ints]:
    return lambda view: fields[view.item, column].astype(np.int64)


def _place_rules(events: Events) -> Iterator[Rule]:
    """Places of targets that the log itself orders. No model reads the place of a drawn negative."""
    if not events.has_impressions:
        return
    names = (*(str(place + 1) for place in range(PLACES - 1)), f"{PLACES} or later")
    yield Rule("position in the slate", names, lambda view: np.minimum(view.place, PLACES - 1))
    yield Rule(
        "position from the end of the slate",
        names,
        lambda view: np.minimum(view.size - 1 - view.place, PLACES - 1),
    )


def _field_rules(events: Events) -> Iterator[Rule]:
    schema, vocabulary = events.schema, events.vocabulary
    for place, field in enumerate(schema.context_fields):
        texts = _texts(field, vocabulary.context.get(field.name, []))
        yield Rule(f"context {field.name}", texts, _of("context", place))
    for place, field in enumerate(schema.user_fields):
        texts = _texts(field, vocabulary.user.get(field.name, []))
        yield Rule(f"user {field.name}", texts, _of("profile", place))
    for place, field in enumerate(schema.candidate_fields):
        yield Rule(f"candidate {field.name}", _texts(field, []), _of("candidate", place))


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
