"""Tombstones of forgotten users: a hash of the cache that keeps builds and late events from bringing them back.

    absorb:{control}:forgotten      HASH sha256 of a user id, hexadecimal -> epoch second; `lifted:<id>` -> epoch second

A tombstone does not name the user. It is no secret either: whoever can read the cache and guess an id can check it, as
with any hash of a short text. It is never removed, except by `lift`, which leaves a field without the hash: the number
of users that were removed from a generation must stay known, or a rollback would take them for lost.

A writer of a user's data checks the tombstone before and after its write, and removes what it wrote if the second check
finds one. Forgetting writes the tombstone first, and then removes the data. So either the removal sees the write, or
the writer sees the tombstone, whatever the order.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from models.live.keys import FORGOTTEN_KEY, tombstone

LIFTED = "lifted:"
"""Prefix of the fields that stand for lifted tombstones."""
HASH = re.compile("[0-9a-f]{64}")
SCAN_COUNT = 1000


@runtime_checkable
class Commands(Protocol):
    """What a Redis client must have: redis-py's clients of one server and of a cluster do."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command; return its parsed answer."""


@dataclass(frozen=True)
class Tombstones:
    """The tombstones of a cache.

    Attributes:
        times: hash of each forgotten user (`tombstone`) -> epoch second at which the user was forgotten.
        lifted: epoch second of each tombstone that was lifted.
    """

    times: Mapping[str, int] = field(default_factory=dict)
    lifted: tuple[int, ...] = ()

    def __contains__(self, user_id: str) -> bool:
        return bool(self.times) and tombstone(user_id) in self.times

    def named(self, user_ids: Iterable[str]) -> list[str]:
        """Those of `user_ids` that are forgotten, in their order."""
        return [one for one in user_ids if one in self] if self.times else []

    def since(self, epoch_s: int) -> int:
        """Number of users that were forgotten at `epoch_s` or later, those of lifted tombstones included."""
        return sum(time_s >= epoch_s for time_s in (*self.times.values(), *self.lifted))


def read_tombstones(client: Commands) -> Tombstones:
    """All tombstones, read in parts: a shop may have a million, and one long command would stop the cache."""
    times: dict[str, int] = {}
    lifted: dict[str, int] = {}
    for name, value in _fields(client):
        if HASH.fullmatch(name):
            times[name] = value
        elif name.startswith(LIFTED):
            lifted[name] = value
    return Tombstones(times, tuple(lifted.values()))


def _fields(client: Commands) -> Iterator[tuple[str, int]]:
    cursor: Any = 0
    while True:
        cursor, part = client.execute_command("HSCAN", FORGOTTEN_KEY, cursor, "COUNT", SCAN_COUNT)
        for name, value in part.items():
            yield _text(name), _number(value)
        if int(cursor) == 0:
            return


def count_tombstones(client: Commands) -> int:
    """Number of tombstones, lifted ones included: it changes with each of them, and is cheap to ask for."""
    return int(client.execute_command("HLEN", FORGOTTEN_KEY))


def is_forgotten(client: Commands, user_id: str) -> bool:
    """Whether a user has a tombstone."""
    return bool(client.execute_command("HEXISTS", FORGOTTEN_KEY, tombstone(user_id)))


def bury(client: Commands, user_id: str, now_s: int) -> bool:
    """Write a user's tombstone; False if there is one, which keeps its time."""
    answer = client.execute_command("HSETNX", FORGOTTEN_KEY, tombstone(user_id), now_s)
    return bool(answer)


def lift(client: Commands, user_id: str, now_s: int) -> bool:
    """Remove a user's tombstone, so that builds and events may bring the user back; False if there is none."""
    # Before the removal: an interruption between the two only counts one removed user too many.
    if not is_forgotten(client, user_id):
        return False
    client.execute_command("HSET", FORGOTTEN_KEY, f"{LIFTED}{secrets.token_hex(8)}", now_s)
    return bool(client.execute_command("HDEL", FORGOTTEN_KEY, tombstone(user_id)))


def restore(client: Commands, tombstones: Tombstones) -> None:
    """Write tombstones back to a cache that has lost them; a tombstone that is there keeps its time."""
    for name, time_s in tombstones.times.items():
        client.execute_command("HSETNX", FORGOTTEN_KEY, name, time_s)


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _number(value: bytes | str) -> int:
    """An epoch second; 0 for a value that is none: the user stays forgotten."""
    text = _text(value)
    return int(text) if text.isascii() and text.isdigit() else 0
