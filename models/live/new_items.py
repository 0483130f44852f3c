"""New items: ids that no build knows yet, with the values of their item fields. Standard library and numpy only.

    absorb:{control}:items      hash: item id -> JSON {"fields": {field: value}, "at_s": epoch second}

Field `` (empty) of the hash is its version: it grows with every change, so that a service asks for it at each poll and
reads the items only when it has changed. It starts at the epoch second, since a cache may lose its memory. Fields are
raw values: each model finds its own prototype for them (`models/contract/prototypes.py`), and a model that knows the
item takes no notice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.contract.errors import RequestError, Unquoted, shown
from models.contract.schema import UNKNOWN
from models.contract.strict_json import read_json
from models.contract.vocabulary import Vocabulary, check_id

NEW_ITEMS_KEY = "absorb:{control}:items"
VERSION_FIELD = ""
"""Field of the version. No item id is empty."""
MAX_NEW_ITEMS = 20_000
"""Items of a cache: every service process holds them, and reads all of them after a change (about 40 ms)."""
MOST_READ = 2 * MAX_NEW_ITEMS
"""Entries above which nothing is read: whoever wrote them did not keep to `MAX_NEW_ITEMS`."""
MAX_AT_ONCE = 1000
"""Items of one request, and of one command."""
INT64 = 2**63
MAX_VALUE = 256
"""Longest value of an item field, in characters."""
MAX_SHOWN = 80
"""Characters of a wrong value that an error repeats."""
MAX_ITEM_FIELDS = 64
"""Most fields of an item."""

Command = tuple[str | bytes, ...]


@runtime_checkable
class Commands(Protocol):
    """What is done with a client of the cache that waits for answers: redis-py's has it."""

    def execute_command(self, *args: Any) -> Any:
        """The answer to a command."""


@dataclass(frozen=True)
class NewItem:
    """An item that a build does not know.

    Attributes:
        item_id: raw id.
        fields: item field -> raw value.
        at_s: epoch second at which it came.
    """

    item_id: str
    fields: Mapping[str, str]
    at_s: int

    def to_bytes(self) -> bytes:
        """The value in the hash."""
        fields = {"fields": dict(self.fields), "at_s": self.at_s}
        return json.dumps(fields).encode()

    @classmethod
    def from_bytes(cls, item_id: str, raw: bytes) -> "NewItem":
        """Inverse of `to_bytes`.

        Raises:
            ValueError: the bytes are none that it writes.
            RequestError: the id is none, or a field or value is none that can be.
        """
        found = read_json(raw)
        if not isinstance(found, dict) or found.keys() != {"fields", "at_s"}:
            raise ValueError("new item: expected an object with fields and at_s")
        at_s = found["at_s"]
        if type(at_s) is not int:
            raise ValueError("new item: at_s: expected an epoch second")
        return cls(check_id("item_id", item_id), read_fields("fields", found["fields"]), at_s)


@dataclass(frozen=True)
class NewItems:
    """Every registered item.

    Attributes:
        version: of the hash; 0 if there is none.
        items: id -> item.
        unreadable: entries that cannot be read, which are left out.
    """

    version: int = 0
    items: Mapping[str, NewItem] = field(default_factory=dict)
    unreadable: int = 0

    def rows_for(self, vocabulary: Vocabulary) -> "NewRows":
        """The rows of the items that a model does not know, and for which it has a prototype."""
        ids = list(self.items)
        known = vocabulary.item_rows(ids) != UNKNOWN
        new = [item for item, is_known in zip(ids, known.tolist(), strict=True) if not is_known]
        found = {item: vocabulary.new_item_row(self.items[item].fields) for item in new}
        rows = {item: row for item, row in found.items() if row != UNKNOWN}
        return NewRows(rows, vocabulary.first_prototype)


@dataclass(frozen=True)
class NewRows:
    """Rows of new items in the catalogue of one model. Read-only: threads may share it.

    Attributes:
        rows: item id -> row of its prototype.
        first: row of the first prototype.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    first: int = 0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.rows)

    def fill(self, items: Sequence[str], rows: NDArray[np.int64]) -> None:
        """Replace `UNKNOWN` in `rows` by the rows of new items.

        Args:
            items: raw ids; only those whose row is `UNKNOWN` are looked at.
            rows: their rows, which are changed.
        """
        for at in np.flatnonzero(rows == UNKNOWN).tolist():
            rows[at] = self.rows.get(items[at], UNKNOWN)


def read_fields(where: str, value: object) -> dict[str, str]:
    """Item fields from JSON; a number is read as a text, and null as a value that is not known.

    Raises:
        RequestError: it is no object of texts, or has none, or too many.
    """
    if not isinstance(value, dict):
        raise RequestError(where, _short(value), "an object: item field -> value")
    if len(value) > MAX_ITEM_FIELDS:
        got = Unquoted(f"{len(value)} of them")
        raise RequestError(where, got, f"at most {MAX_ITEM_FIELDS}")
    fields = {name: str(one) for name, one in value.items() if _check_value(f"{where}.{name}", one)}
    if not fields:
        raise RequestError(where, Unquoted("no value"), "at least one item field with a value")
    return fields


def _check_value(where: str, value: object) -> bool:
    """Whether there is a value."""
    is_text = type(value) is str and len(value) <= MAX_VALUE
    is_number = (type(value) is int and abs(value) < INT64) or (
        type(value) is float and isfinite(value)
    )
    if not is_text and not is_number and type(value) is not bool and value is not None:
        expected = (
            f"a text of at most {MAX_VALUE} characters, an integer of 64 bits, a finite number, true, "
            "false or null"
        )
        raise RequestError(where, _short(value), expected)
    return value is not None


def _short(value: object) -> object:
    text = shown(value)
    return value if len(text) <= MAX_SHOWN else Unquoted(f"{text[:MAX_SHOWN]}…")


def read_new_items(fields: Mapping[bytes, bytes]) -> NewItems:
    """The items from what `HGETALL` returns. An entry that cannot be read is counted, and left out."""
    items, unreadable = {}, 0
    for raw_id, raw in fields.items():
        if raw_id == VERSION_FIELD.encode():
            continue
        try:
            item_id = raw_id.decode()
            items[item_id] = NewItem.from_bytes(item_id, raw)
        except (ValueError, RequestError):
            unreadable += 1
    return NewItems(read_version(fields.get(VERSION_FIELD.encode())), items, unreadable)


def check_length(length: int) -> None:
    """Check that the items may be read.

    Raises:
        RequestError: there are too many entries.
    """
    if length > MOST_READ:
        got = Unquoted(f"{length:,} entries")
        raise RequestError(NEW_ITEMS_KEY, got, f"at most {MOST_READ:,}")


def read_version(raw: bytes | None) -> int:
    """The version from what `HGET` returns; 0 if it is none."""
    return int(raw) if raw is not None and raw.isdigit() and len(raw) < 19 else 0


def room_commands(item_ids: Sequence[str]) -> list[Command]:
    """Commands whose answers `check_room` takes."""
    key = NEW_ITEMS_KEY
    return [("HLEN", key), ("HEXISTS", key, VERSION_FIELD), ("HMGET", key, *item_ids)]


def check_room(answers: Sequence[Any]) -> None:
    """Check that items may be registered. Who writes at the same moment may take the same room: a reader reads more.

    Raises:
        RequestError: there would be too many.
    """
    length, has_version, there = answers
    total = length - has_version + sum(one is None for one in there)
    if total > MAX_NEW_ITEMS:
        got = Unquoted(f"{total:,} with those that are registered")
        expected = f"at most {MAX_NEW_ITEMS:,}: remove some, or build with them"
        raise RequestError("items", got, expected)


def put_commands(items: Sequence[NewItem]) -> list[Command]:
    """Commands that register items. The version grows last, so that no reader takes a part for the whole."""
    now_s = str(max(item.at_s for item in items))
    pairs = [part for item in items for part in (item.item_id, item.to_bytes())]
    return [
        ("HSETNX", NEW_ITEMS_KEY, VERSION_FIELD, now_s),
        ("HSET", NEW_ITEMS_KEY, *pairs),
        ("HINCRBY", NEW_ITEMS_KEY, VERSION_FIELD, "1"),
    ]


def drop_commands(item_ids: Sequence[str]) -> list[Command]:
    """Commands that remove items; the first answer says how many were registered."""
    return [
        ("HDEL", NEW_ITEMS_KEY, *item_ids),
        ("HINCRBY", NEW_ITEMS_KEY, VERSION_FIELD, "1"),
    ]


def put_items(client: Commands, items: Sequence[NewItem]) -> None:
    """Register items, or give them other fields, `MAX_AT_ONCE` at a time.

    Raises:
        RequestError: there would be too many items.
    """
    for start in range(0, len(items), MAX_AT_ONCE):
        piece = items[start : start + MAX_AT_ONCE]
        check_room(_run(client, room_commands([item.item_id for item in piece])))
        _run(client, put_commands(piece))


def drop_items(client: Commands, item_ids: Sequence[str]) -> int:
    """Remove items; returns how many were registered."""
    starts = range(0, len(item_ids), MAX_AT_ONCE)
    pieces = [item_ids[at : at + MAX_AT_ONCE] for at in starts]
    return sum(_run(client, drop_commands(piece))[0] for piece in pieces)


def registered(client: Commands) -> NewItems:
    """Every item of a cache."""
    (fields,) = _run(client, [("HGETALL", NEW_ITEMS_KEY)])
    return read_new_items(fields)


def registered_since(client: Commands, known: NewItems) -> NewItems:
    """Every item of a cache; `known` itself if nothing has changed since it was read.

    Raises:
        RequestError: there are more than `MOST_READ` entries.
    """
    raw, length = _run(client, [("HGET", NEW_ITEMS_KEY, VERSION_FIELD), ("HLEN", NEW_ITEMS_KEY)])
    if read_version(raw) == known.version:
        return known
    check_length(length)
    return registered(client)


def _run(client: Commands, commands: Sequence[Command]) -> list[Any]:
    return [client.execute_command(*command) for command in commands]
