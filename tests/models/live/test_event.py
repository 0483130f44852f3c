"""Events keep their values through bytes, and refuse what cannot be one."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.errors import RequestError
from models.live.event import MAX_AHEAD_S, MAX_EVENT_BYTES, MAX_FIELDS, Event, EventError

NOW_S = 1_700_000_000.0
EVENT = Event("a1", "user", "item", int(NOW_S), "buy", {"device": "phone"})
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    event=st.builds(
        Event, TEXT, TEXT, TEXT, st.integers(), TEXT, st.dictionaries(TEXT, TEXT, max_size=3)
    )
)
def test_bytes_keep_every_value(event: Event):
    assert Event.from_bytes(event.to_bytes()) == event


def test_equal_events_have_equal_bytes():
    fields = {"a": "1", "b": "2"}
    turned = dict(reversed(fields.items()))
    assert replace(EVENT, fields=fields).to_bytes() == replace(EVENT, fields=turned).to_bytes()


@given(raw=st.one_of(st.binary(max_size=60), st.from_type(type(None)).map(lambda _: b"[" * 9999)))
def test_bytes_of_any_origin_are_an_event_or_an_error(raw: bytes):
    with pytest.raises(EventError):
        Event.from_bytes(raw)


@pytest.mark.parametrize(
    ("name", "value"),
    [("id", 5), ("user", None), ("item", ["x"]), ("ts", True), ("ts", 1.5), ("kind", 3), ("fields", []),
     ("fields", {"a": 1}), ("user", "\ud800"), ("extra", "x")],
)  # fmt: skip
def test_a_value_of_another_type_is_named(name: str, value: object):
    raw = json.dumps({**json.loads(EVENT.to_bytes()), name: value}).encode()
    with pytest.raises(EventError, match=name if name != "fields" or value == [] else "a"):
        Event.from_bytes(raw)


def test_a_key_that_comes_twice_is_refused():
    with pytest.raises(EventError, match="twice"):
        Event.from_bytes(b'{"id":"a","user":"u","item":"i","ts":1,"ts":2}')


def test_the_longest_event_that_passes_is_read():
    fields = {chr(0x4E00 + at) * 64: "\u4e2d" * 64 for at in range(MAX_FIELDS)}
    longest = Event("\u4e2d" * 128, "\u4e2d" * 128, "\u4e2d" * 128, 1, "\u4e2d" * 64, fields)
    longest.check(NOW_S)
    assert len(longest.to_bytes()) <= MAX_EVENT_BYTES
    assert Event.from_bytes(longest.to_bytes()) == longest
    with pytest.raises(EventError, match="bytes"):
        Event.from_bytes(b" " * (MAX_EVENT_BYTES + 1))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": ""}, "event_id"),
        ({"user_id": "a\nb"}, "user_id"),
        ({"item_id": "x" * 129}, "item_id"),
        ({"ts_s": -1}, "ts_s"),
        ({"ts_s": int(NOW_S) + MAX_AHEAD_S + 1}, "ts_s"),
        ({"kind": "x" * 65}, "kind"),
        ({"fields": {"a": ""}}, "fields.a"),
        ({"fields": {"": "a"}}, "fields"),
        ({"fields": {str(at): "x" for at in range(MAX_FIELDS + 1)}}, "fields"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, object], field: str):
    EVENT.check(NOW_S)
    with pytest.raises(RequestError, match=f"^{field}: "):
        replace(EVENT, **change).check(NOW_S)  # type: ignore[arg-type]
