"""The body of POST /v1/events: checked and documented by pydantic, with this service's own error texts."""

import secrets
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from models.contract.errors import RequestError, Unquoted, did_you_mean
from models.contract.vocabulary import check_id
from models.live.event import MAX_FIELDS, MAX_KIND, Event
from service.http.candidates import ID_SCHEMA, read_id, require_list, short
from service.transport.limits import MARGIN, JsonBound

MAX_EVENTS = 1000
"""Events of one request."""
MAX_KEY = 100
"""Most characters of an idempotency key: with a position behind it, it is an event id."""
TEXT_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_KIND}
PROPERTIES: dict[str, Any] = {
    "user_id": {**ID_SCHEMA, "description": "Raw id of the user, known to the build or not."},
    "item_id": {**ID_SCHEMA, "description": "Raw id of the item."},
    "ts_s": {
        "type": "integer",
        "minimum": 0,
        "description": "Epoch second, at most 300 s ahead of the service's clock; absent: now.",
    },
    "kind": {**TEXT_SCHEMA, "description": "What was done, such as `buy`."},
    "fields": {
        "type": "object",
        "maxProperties": MAX_FIELDS,
        "additionalProperties": TEXT_SCHEMA,
        "description": "Further values, such as the device. They are kept, and change no state.",
    },
    "event_id": {
        "type": "string",
        "minLength": 1,
        "maxLength": 128,
        "description": "Two events of a user with one id are one event. Absent: made of the header `Idempotency-Key` "
        "and the position in the list; without the header, random.",
    },
}
EVENT_SCHEMA = {
    "type": "object",
    "properties": PROPERTIES,
    "required": ["user_id", "item_id"],
    "additionalProperties": False,
}


def body_bound() -> JsonBound:
    """How many lists, objects and values a body may hold: an event is two objects at most."""
    containers = MARGIN * (2 * MAX_EVENTS + 4)
    return JsonBound(containers, MARGIN * MAX_EVENTS * (len(PROPERTIES) + MAX_FIELDS))


def _list_of_events(value: object) -> list[object]:
    return require_list("events", value, MAX_EVENTS, f"a list of 1 to {MAX_EVENTS} events")


class EventsRequest(BaseModel):
    """What users did. A body may also be one event without the list around it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "user_id": "42",
                            "item_id": "7",
                            "kind": "buy",
                            "ts_s": 1700000000,
                            "event_id": "order-1",
                        },
                        {"user_id": "42", "item_id": 9},
                    ]
                }
            ]
        },
    )

    events: Annotated[
        list[Any],
        PlainValidator(_list_of_events),
        WithJsonSchema(
            {"type": "array", "items": EVENT_SCHEMA, "minItems": 1, "maxItems": MAX_EVENTS}
        ),
    ]
    """The events, in any order; 1 to 1,000."""

    @model_validator(mode="before")
    @classmethod
    def _wrap_one(cls, value: Any) -> Any:
        """Take an event for a list of one."""
        is_one = isinstance(value, dict) and "events" not in value and "user_id" in value
        return {"events": [value]} if is_one else value

    def read(self, key: str | None, now_s: float) -> list[Event]:
        """Check every event.

        Args:
            key: the request's idempotency key.
            now_s: epoch second.

        Raises:
            RequestError: names the event, the value, what came and what was expected.
        """
        prefix = secrets.token_hex(12) if key is None else key
        return [_event(at, value, f"{prefix}:{at}", now_s) for at, value in enumerate(self.events)]


def check_key(key: str) -> str:
    """Check a request's idempotency key.

    Raises:
        RequestError: it cannot be part of an event id.
    """
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise RequestError("idempotency-key", short(key), f"1 to {MAX_KEY} printable characters")
    return key


def _event(at: int, value: object, own_id: str, now_s: float) -> Event:
    name = f"events[{at}]"
    if not isinstance(value, dict):
        raise RequestError(name, short(value), "an object with user_id and item_id")
    for wrong in value.keys() - PROPERTIES.keys():
        hint = did_you_mean(wrong, PROPERTIES)
        raise RequestError(name, short(wrong), f"only the keys {', '.join(PROPERTIES)}{hint}")
    for needed in ("user_id", "item_id"):
        if needed not in value:
            raise RequestError(f"{name}.{needed}", Unquoted("nothing"), "an id: it is required")
    event = Event(
        _event_id(name, value.get("event_id"), own_id),
        read_id(f"{name}.user_id", value["user_id"]),
        read_id(f"{name}.item_id", value["item_id"]),
        _time(name, value.get("ts_s"), now_s),
        "" if value.get("kind") is None else _text(f"{name}.kind", value["kind"]),
        {} if value.get("fields") is None else _texts(f"{name}.fields", value["fields"]),
    )
    event.check(now_s, f"{name}.")
    return event


def _event_id(name: str, value: object, own_id: str) -> str:
    return (
        own_id if value is None else check_id(f"{name}.event_id", _text(f"{name}.event_id", value))
    )


def _time(name: str, value: object, now_s: float) -> int:
    if value is None:
        return int(now_s)
    if type(value) is not int:  # bool is an int, and no number
        raise RequestError(f"{name}.ts_s", short(value), "an integer, the epoch second")
    return value


def _text(name: str, value: object) -> str:
    if type(value) is not str:
        raise RequestError(name, short(value), "a string")
    return value


def _texts(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise RequestError(name, short(value), "an object of strings")
    if len(value) > MAX_FIELDS:
        raise RequestError(name, Unquoted(f"{len(value)} fields"), f"at most {MAX_FIELDS}")
    return {key: _text(f"{name}.{key}", field) for key, field in value.items()}
