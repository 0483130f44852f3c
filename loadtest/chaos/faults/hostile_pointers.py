"""Generation pointers that no builder writes, made from a good one. The chaos run and the fuzz suite share them."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

DEEP = 100_000
LONG_BYTES = 80_000_000
"""A pointer of this size, read and parsed as a whole, stops an event loop for about a second."""
HUGE = 10**400
"""An integer that no float can hold."""
NUMBERS: tuple[Any, ...] = (
    HUGE,
    -1,
    10**18,
    0.5,
    1e300,
    float("nan"),
    float("inf"),
    "8",
    "2026-11-27",
    True,
    None,
    [],
    {},
)
TEXTS: tuple[Any, ...] = (
    "",
    "../../etc",
    "a" * 5000,
    "\0",
    "\ud800",
    "20261122T031500Z-0a1b2c\n",
    "*",
    5,
    None,
    [[[[[["deep"]]]]]],
)
ANOTHER_MODEL = "another model"
"""Name of the only hostile pointer that can be read: it points at another model."""
TEXT_FIELDS = ("model", "name", "artifact_id", "dtype", "slot")
NUMBER_FIELDS = ("num_users", "as_of_s", "created_s")
OVERWRITTEN = {"name": "20261122T031500Z-0a1b2c", "artifact_id": "0123456789abcdef" * 2}


def hostile_pointers(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each hostile pointer.

    Args:
        good: a pointer that serves; most of the hostile ones differ from it in one field.
    """
    yield from _not_json()
    fields = json.loads(good)
    for place in ("current", "previous"):
        for name, value in _wrong_fields():
            generation = {**fields["current"], name: value}
            raw = json.dumps({**fields, place: generation}).encode()
            yield f"{place}.{name} = {repr(value)[:20]}", raw
    for name, change in _SHAPES.items():
        yield name, json.dumps(change(fields)).encode()
    yield from _keys_twice(fields)


def _keys_twice(fields: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    current, slot = json.dumps(fields["current"]), OVERWRITTEN["name"]
    twice = current[:-1] + f', "name": "{slot}"}}'
    yield "current.name twice", f'{{"current": {twice}, "previous": null}}'.encode()
    yield (
        "current twice",
        f'{{"current": {current}, "previous": null, "current": {current}}}'.encode(),
    )


def _not_json() -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "no JSON", b"{"
    yield "no text", b"\xff\xfe" * 50
    yield "deep lists", b"[" * DEEP
    yield "deep objects", b'{"current":' * DEEP
    yield "deep and closed", b"[" * DEEP + b"]" * DEEP
    yield "deep but short", b"[" * 8000
    yield "long text", b'"' + b"a" * LONG_BYTES + b'"'
    yield "long list", b"[" + b"0," * (LONG_BYTES // 2) + b"0]"
    yield "long number", b"9" * 10_000
    yield "spaces", b" " * LONG_BYTES


def _wrong_fields() -> Iterator[tuple[str, Any]]:
    for name in NUMBER_FIELDS:
        for number in NUMBERS:
            yield name, number
    for name in TEXT_FIELDS:
        for text in TEXTS:
            if not (name == "slot" and text == ""):  # that is a good slot
                yield name, text
    yield "over", "abc"
    yield "over", {"name": "x"}
    yield "over", [1, 2]
    yield "over", [OVERWRITTEN] * 100
    yield "over", [{**OVERWRITTEN, "artifact_id": "../x"}]
    yield "over", [{**OVERWRITTEN, "more": 1}]
    yield "unknown", 1


Change = Callable[[Mapping[str, Any]], Any]
_SHAPES: Mapping[str, Change] = {
    "a list": lambda fields: [fields],
    "a string": lambda fields: "pointer",
    "no current": lambda fields: {"previous": fields["current"]},
    "no previous": lambda fields: {"current": fields["current"]},
    "an unknown key": lambda fields: {**fields, "next": None},
    "current is null": lambda fields: {**fields, "current": None},
    "current is a list": lambda fields: {**fields, "current": [fields["current"]]},
    "previous is empty": lambda fields: {**fields, "previous": {}},
    ANOTHER_MODEL: lambda fields: {
        "current": {**fields["current"], "model": "another"},
        "previous": None,
    },
}
