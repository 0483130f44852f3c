"""Accepts live events: into their users' logs, and into the stream that the workers read."""

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.live.event import Event
from models.live.keys import EVENT_FIELD, FORGOTTEN_KEY, IN_KEY, TOUCHED_KEY, log_key, tombstone
from models.live.log import VERSION_FIELD
from service.errors import OverloadedError, UserForgottenError
from service.store.redis import Keyed

MAX_ASKED = 1000
"""Most tombstones that one command asks for."""
RETRY_AFTER_S = 5
"""When a client should try again while the workers are behind."""

Users = dict[str, list[tuple[str, bytes]]]
"""User id -> id and bytes of each event."""


class CommandStore(Protocol):
    """What this module does with a cache."""

    async def execute(self, commands: Sequence[Keyed]) -> list[Any]:
        """Run commands, those of one key in order; raises the first error."""


@dataclass(frozen=True)
class Accepted:
    """What became of events.

    Attributes:
        accepted: number of events that came.
        duplicates: those of them that were known already, by their ids.
        position: id of the last one's entry in the stream.
    """

    accepted: int
    duplicates: int
    position: str


class EventLog:
    """Writes events to the cache.

    An event is in its user's log before it is in the stream: a stream that is trimmed or lost loses nothing, since the
    workers find its users by `TOUCHED_KEY`.
    """

    def __init__(self, store: CommandStore, max_waiting: int) -> None:
        """Store the dependencies.

        Args:
            store: the cache.
            max_waiting: entries of the stream from which on no event is accepted.
        """
        self._store = store
        self._max_waiting = max_waiting

    async def forgotten(self, hashes: Sequence[str]) -> list[str]:
        """Those of some users, given by `tombstone`, who were forgotten.

        Raises:
            CacheUnavailableError: the cache does not answer.
        """
        found: list[str] = []
        for start in range(0, len(hashes), MAX_ASKED):
            part = hashes[start : start + MAX_ASKED]
            (marks,) = await self._store.execute([(FORGOTTEN_KEY, ("HMGET", FORGOTTEN_KEY, *part))])
            found += [user for user, mark in zip(part, marks, strict=True) if mark is not None]
        return found

    async def append(self, events: Sequence[Event]) -> Accepted:
        """Write events. If it fails, some of them may be written: the same events may come again, with their ids.

        Raises:
            UserForgottenError: a user was forgotten; nothing is written, or nothing of this user stays.
            OverloadedError: too many events wait for the workers; nothing is written.
            CacheUnavailableError: the cache does not answer, or is full.
        """
        raw = [event.to_bytes() for event in events]
        users: Users = {}
        for event, value in zip(events, raw, strict=True):
            users.setdefault(event.user_id, []).append((event.event_id, value))
        await self._require_room(events, users)
        # In steps: a cluster keeps the order of the commands of one key only.
        new = await self._write_logs(users)
        positions = await self._store.execute(list(_entries(raw)))
        (marks,) = await self._store.execute([_tombstones(users)])
        if gone := _marked(users, marks):
            await self._remove(gone, events, positions)
            raise _refusal(events, gone)
        return Accepted(len(events), len(events) - new, positions[-1].decode())

    async def _require_room(self, events: Sequence[Event], users: Users) -> None:
        marks, waiting = await self._store.execute([_tombstones(users), (IN_KEY, ("XLEN", IN_KEY))])
        if gone := _marked(users, marks):
            raise _refusal(events, gone)
        if waiting + len(events) > self._max_waiting:
            why = f"{waiting} events wait to be folded, at most {self._max_waiting} may"
            raise OverloadedError(why, RETRY_AFTER_S)

    async def _write_logs(self, users: Users) -> int:
        """Write each user's log; return how many events were new."""
        commands = [*_appends(users), _touch(users)]
        answers = await self._store.execute(commands)
        pairs = zip(commands, answers, strict=True)
        return sum(answer for (_, command), answer in pairs if command[0] == "HSETNX")

    async def _remove(
        self, gone: set[str], events: Sequence[Event], positions: Sequence[bytes]
    ) -> None:
        """Remove what was written of users who were forgotten meanwhile (`models/live/tombstones.py`)."""
        theirs = [at for event, at in zip(events, positions, strict=True) if event.user_id in gone]
        await self._store.execute(
            [
                *((log_key(user), ("UNLINK", log_key(user))) for user in gone),
                (TOUCHED_KEY, ("ZREM", TOUCHED_KEY, *gone)),
                (IN_KEY, ("XDEL", IN_KEY, *theirs)),
            ]
        )


def _tombstones(users: Iterable[str]) -> Keyed:
    return FORGOTTEN_KEY, ("HMGET", FORGOTTEN_KEY, *map(tombstone, users))


def _marked(users: Iterable[str], marks: Sequence[bytes | None]) -> set[str]:
    return {user for user, mark in zip(users, marks, strict=True) if mark is not None}


def _refusal(events: Sequence[Event], gone: Container[str]) -> UserForgottenError:
    at = next(at for at, event in enumerate(events) if event.user_id in gone)
    return UserForgottenError(f"events[{at}].user_id")


def _appends(users: Users) -> Iterator[Keyed]:
    """As `models.live.log.append`, without its script: a service may run none (docker/cache/users.acl).

    The version grows after the events are there, so whoever reads it finds them; it may grow without a new one.
    """
    for user, events in users.items():
        key = log_key(user)
        for event_id, raw in events:
            yield key, ("HSETNX", key, event_id, raw)
        yield key, ("HINCRBY", key, VERSION_FIELD, str(len(events)))


def _touch(users: Iterable[str]) -> Keyed:
    now_ms = str(time.time_ns() // 1_000_000)
    marks = [part for user in users for part in (now_ms, user)]
    return TOUCHED_KEY, ("ZADD", TOUCHED_KEY, "GT", *marks)


def _entries(events: Iterable[bytes]) -> Iterator[Keyed]:
    for raw in events:
        yield IN_KEY, ("XADD", IN_KEY, "*", EVENT_FIELD, raw)
