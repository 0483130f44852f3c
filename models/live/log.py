"""A user's live events in the cache: a hash from event id to event, with a version that counts the new ones.

The log is what states are made of. Appending is idempotent: an event that comes again, by a client that retries, a
stream that delivers twice or a second worker, changes nothing. The version grows with every new event, now and then
without one, and never falls while the log lives, so a record that names the version it was made from can be compared
with the log.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from models.live.event import Event, EventError
from models.live.keys import log_key

VERSION_FIELD = ""
"""Field of the version. No event id is empty."""

# KEYS: the log. ARGV: event id, event, event id, event, … Returns the version, and how many events were new.
APPEND = """
local new = 0
for i = 1, #ARGV, 2 do new = new + redis.call('hsetnx', KEYS[1], ARGV[i], ARGV[i + 1]) end
if new > 0 then return {redis.call('hincrby', KEYS[1], '', new), new} end
return {tonumber(redis.call('hget', KEYS[1], '') or 0), 0}
"""


@runtime_checkable
class Commands(Protocol):
    """What this room does with a client of the cache, or with its pipeline: redis-py's has it."""

    def execute_command(self, *args: Any) -> Any:
        """Send one command, such as EVAL, which redis-py's pipeline of a cluster has no method for."""

    def hgetall(self, name: str) -> Any:
        """Every field of a hash."""

    def hdel(self, name: str, *keys: Any) -> Any:
        """Remove fields of a hash."""


@dataclass(frozen=True)
class UserLog:
    """A user's live events.

    Attributes:
        version: how many events were ever added.
        events: those that are kept, in no order.
    """

    version: int
    events: tuple[Event, ...] = ()


def append_arguments(events: Iterable[Event]) -> list[str | bytes]:
    """Arguments of `APPEND` behind the key, for events of one user."""
    return [part for event in events for part in (event.event_id, event.to_bytes())]


def append(client: Commands, user_id: str, events: Sequence[Event]) -> Any:
    """Add events of one user to the log.

    Args:
        client: the cache, or a pipeline.
        user_id: their user.
        events: at most a thousand.

    Returns:
        The log's version, and how many events it did not have; or what a pipeline returns.
    """
    return client.execute_command("EVAL", APPEND, 1, log_key(user_id), *append_arguments(events))


def read_log(fields: Mapping[bytes, bytes]) -> UserLog:
    """The log from what `HGETALL` returns; an empty one if there is none.

    Raises:
        EventError: a value is not what `append` writes.
    """
    raw = fields.get(VERSION_FIELD.encode(), b"0")
    try:
        version = int(raw)
    except ValueError as error:
        raise EventError(f"version of a log: got {raw[:32]!r}, expected a number") from error
    values = (value for name, value in fields.items() if name != VERSION_FIELD.encode())
    return UserLog(version, tuple(Event.from_bytes(value) for value in values))


def drop(client: Commands, user_id: str, event_ids: Sequence[str]) -> Any:
    """Remove events that no kept generation needs any more. The version stays."""
    return client.hdel(log_key(user_id), *event_ids)
