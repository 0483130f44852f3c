"""Removes everything that the cache holds of one user: the tombstone first, then records, histories, events, marks.

Whoever writes of a user reads the tombstone before and after the write (`models/live/tombstones.py`), so nothing comes
back. Every step may be repeated: an interrupted removal is finished by the next one.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from models.contract.generation import GENERATION_NAME, MODEL_NAME
from models.live.event import Event, EventError
from models.live.keys import (
    CHANGED_KEY,
    DEAD_KEY,
    EVENT_FIELD,
    FORGOTTEN_FIELD,
    GROUP,
    IN_KEY,
    MAX_CHANGED,
    REASON_FIELD,
    TOUCHED_KEY,
    USER_FIELD,
    log_key,
    tombstone,
)
from models.live.stream_copy import Fields, remove_entries
from models.live.tombstones import Commands, bury

SCAN_COUNT = 1000
MAX_PASSES = 3
"""Searches of all keys; the last one finds nothing, unless a writer of an older version works against it."""
GLOB = re.compile(r"([*?\[\]\\^-])")
"""What has a meaning in a pattern of SCAN."""
GENERATION = rf"({MODEL_NAME.pattern}):({GENERATION_NAME.pattern})"
RECORD = re.compile(f"absorb:{GENERATION}:(.*)", re.DOTALL)
HISTORY = re.compile(rf"absorb\.history:{GENERATION}:(.*)", re.DOTALL)


@runtime_checkable
class Cache(Commands, Protocol):
    """What this module does with a client of the cache: redis-py's has it."""

    def scan_iter(self, match: Any = None, count: Any = None) -> Iterator[Any]:
        """All keys that match, on every server of the cache."""


@dataclass
class Removed:
    """What was removed from the cache.

    Attributes:
        is_new: whether the user had no tombstone before.
        records: (model, place of the generation) -> records.
        histories: the same of base histories.
        live_events: events of the user's own log.
        entries: stream -> entries.
        touched: whether the user was marked as having new events.
        unclean: streams in which bytes of removed entries stay until the other entries are consumed.
    """

    is_new: bool
    records: Counter[tuple[str, str]] = field(default_factory=Counter)
    histories: Counter[tuple[str, str]] = field(default_factory=Counter)
    live_events: int = 0
    entries: Counter[str] = field(default_factory=Counter)
    touched: bool = False
    unclean: list[str] = field(default_factory=list)

    @property
    def is_nothing(self) -> bool:
        """Whether the cache held nothing of the user."""
        counts = (self.records, self.histories, self.entries)
        return not (self.live_events or self.touched or any(count.total() for count in counts))


def forget_in_cache(client: Cache, user_id: str) -> Removed:
    """Write the user's tombstone, then remove what the cache holds of the user, and tell the services.

    Memory of running services: they read the marker in `CHANGED_KEY`, which names the user by the hash, and drop the
    user; a service that was not connected drops all that it holds.
    """
    removed = Removed(bury(client, user_id, int(time.time())))
    for _ in range(MAX_PASSES):
        if not _remove_keys(client, user_id, removed):
            break
    removed.touched = bool(client.execute_command("ZREM", TOUCHED_KEY, user_id))
    _remove_from_streams(client, user_id, removed)
    # After the removal: a read that begins once a service knows finds nothing.
    marker = (FORGOTTEN_FIELD, tombstone(user_id))
    client.execute_command("XADD", CHANGED_KEY, "MAXLEN", "~", MAX_CHANGED, "*", *marker)
    return removed


def _remove_keys(client: Cache, user_id: str, removed: Removed) -> int:
    """Remove the keys of the user; return how many there were."""
    num_keys = 0
    for raw in client.scan_iter(match=_pattern(user_id), count=SCAN_COUNT):
        key = raw.decode(errors="surrogateescape") if isinstance(raw, bytes) else raw
        counts, name = removed.records, RECORD.fullmatch(key)
        if name is None:
            counts, name = removed.histories, HISTORY.fullmatch(key)
        if name is not None and name[3] == user_id:
            count = int(client.execute_command("UNLINK", raw))
            counts[name[1], name[2]] += count
            num_keys += count
    own_log = log_key(user_id)
    events = int(client.execute_command("HLEN", own_log))
    if events:
        removed.live_events += max(0, events - 1)  # one field is the version
        num_keys += int(client.execute_command("UNLINK", own_log))
    return num_keys


def _pattern(user_id: str) -> str:
    """Glob that matches every key that may end with the user id."""
    return "absorb*:" + GLOB.sub(r"\\\1", user_id)


def _remove_from_streams(client: Cache, user_id: str, removed: Removed) -> None:
    is_theirs = names_user(user_id)
    for key, group in ((IN_KEY, GROUP), (DEAD_KEY, None), (CHANGED_KEY, None)):
        number, is_clean = remove_entries(client, key, is_theirs, group)
        removed.entries[key] += number
        if not is_clean:
            removed.unclean.append(key)


def names_user(user_id: str) -> Callable[[Fields], bool]:
    """Whether the fields of an entry concern the user.

    An event that cannot be read concerns the user if the id stands in it: its own user may be another, whose broken
    event is removed then too.
    """
    text = re.compile(rb"(?<![\w-])" + re.escape(user_id.encode()) + rb"(?![\w-])")
    user, event, reason = USER_FIELD.encode(), EVENT_FIELD.encode(), REASON_FIELD.encode()

    def concerns(fields: Fields) -> bool:
        if fields.get(user) == user_id.encode():
            return True
        raw = fields.get(event)
        if raw is None:
            return False
        owner = _owner(raw)
        if owner is not None:
            return owner == user_id
        return bool(text.search(raw) or text.search(fields.get(reason, b"")))

    return concerns


def _owner(raw: bytes) -> str | None:
    """User of an event; None if it cannot be read."""
    try:
        return Event.from_bytes(raw).user_id
    except EventError:
        pass
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    owner = values.get("user") if isinstance(values, dict) else None
    return str(owner) if isinstance(owner, str | int) else None
