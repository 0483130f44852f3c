"""One event of one user, as clients send it, streams carry it and logs keep it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.contract.epoch import END_OF_TIME_S
from models.contract.errors import AbsorbError, RequestError, shown
from models.contract.strict_json import read_json
from models.contract.vocabulary import check_id

MAX_AHEAD_S = 300
"""How far an event may be ahead of the clock of who accepts it: clocks differ, by less than this where they are kept.
A time in another unit or zone is further ahead."""
MAX_KIND = 64
"""Most characters of a kind, and of the name and the value of a field."""
MAX_FIELDS = 32
"""Most fields of an event."""
MAX_EVENT_BYTES = 16 << 10
"""Longest event that is read. The longest that passes the checks has about 15 kB."""
KEYS = {"id", "user", "item", "ts", "kind", "fields"}


class EventError(AbsorbError):
    """Bytes of a stream or a log are not an event."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"event: {reason}")


@dataclass(frozen=True, slots=True)
class Event:
    """What a user did.

    Attributes:
        event_id: two events of one user with the same id are the same event.
        user_id: raw id.
        item_id: raw id of the item.
        ts_s: epoch second.
        kind: what was done, such as "buy"; empty: not said.
        fields: further values, such as the device.
    """

    event_id: str
    user_id: str
    item_id: str
    ts_s: int
    kind: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)

    def check(self, now_s: float, where: str = "") -> None:
        """Check every value.

        Args:
            now_s: epoch second by the clock of the caller.
            where: what comes before a value's name in errors.

        Raises:
            RequestError: a value cannot be used; names it, what came and what was expected.
        """
        check_id(f"{where}event_id", self.event_id)
        check_id(f"{where}user_id", self.user_id)
        check_id(f"{where}item_id", self.item_id)
        if not 0 <= self.ts_s <= min(now_s + MAX_AHEAD_S, END_OF_TIME_S):
            expected = f"an epoch second, at most {MAX_AHEAD_S} s ahead of {int(now_s)}"
            raise RequestError(f"{where}ts_s", self.ts_s, expected)
        if self.kind:
            _check_text(f"{where}kind", self.kind)
        if len(self.fields) > MAX_FIELDS:
            raise RequestError(
                f"{where}fields", f"{len(self.fields)} fields", f"at most {MAX_FIELDS}"
            )
        for name, value in self.fields.items():
            _check_text(f"{where}fields", name)
            _check_text(f"{where}fields.{name}", value)

    def to_bytes(self) -> bytes:
        """The event as JSON; an empty kind and empty fields are left out. Equal events give equal bytes."""
        values: dict[str, Any] = {
            "id": self.event_id,
            "user": self.user_id,
            "item": self.item_id,
            "ts": self.ts_s,
        }
        if self.kind:
            values["kind"] = self.kind
        if self.fields:
            values["fields"] = dict(sorted(self.fields.items()))
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Event":
        """Inverse of `to_bytes`, for bytes of any origin. Checks types, not values: `check` does.

        Raises:
            EventError: the bytes are not an event.
        """
        return cls.from_values(parsed(raw))

    @classmethod
    def from_values(cls, values: object) -> "Event":
        """The event whose parsed JSON is `values`.

        Raises:
            EventError: they are not an event.
        """
        if (
            not isinstance(values, dict)
            or not {"id", "user", "item", "ts"} <= values.keys() <= KEYS
        ):
            expected = "an object with id, user, item, ts, and perhaps kind and fields"
            raise EventError(f"got {shown(values)}, expected {expected}")
        return cls(
            _text(values, "id"),
            _text(values, "user"),
            _text(values, "item"),
            _number(values, "ts"),
            _text(values, "kind") if "kind" in values else "",
            _texts(values, "fields") if "fields" in values else {},
        )


def parsed(raw: bytes) -> Any:
    """The JSON of a message that should be an event.

    Raises:
        EventError: it is longer than an event can be, or no JSON.
    """
    if len(raw) > MAX_EVENT_BYTES:
        raise EventError(f"got {len(raw)} bytes, expected at most {MAX_EVENT_BYTES}")
    try:
        return read_json(raw)
    except (ValueError, RecursionError) as error:
        raise EventError(f"got {shown(raw)}, expected JSON: {error}") from error


def _check_text(name: str, value: str) -> None:
    if not 1 <= len(value) <= MAX_KIND or not value.isprintable():
        raise RequestError(name, value, f"1 to {MAX_KIND} printable characters")


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values[name]
    if not isinstance(value, str):
        raise EventError(f"{name}: got {shown(value)}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # a lone surrogate: it can be no key of the cache
        raise EventError(f"{name}: got {shown(value)}, expected Unicode text") from error
    return value


def _number(values: Mapping[str, Any], name: str) -> int:
    value = values[name]
    if type(value) is not int:  # bool is an int, and no number
        raise EventError(f"{name}: got {shown(value)}, expected a whole number")
    return value


def _texts(values: Mapping[str, Any], name: str) -> dict[str, str]:
    fields = values[name]
    if not isinstance(fields, dict):
        raise EventError(f"{name}: got {shown(fields)}, expected an object of texts")
    return {key: _text(fields, key) for key in fields}
