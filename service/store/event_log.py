"""Accepts live events: into their users' logs, and into the stream that the workers read."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.live.event import Event
from models.live.keys import EVENT_FIELD, FORGOTTEN_KEY, IN_KEY, TOUCHED_KEY, log_key, tombstone
from models.live.log import VERSION_FIELD
from service.errors import OverloadedError, UserForgottenError

RETRY_AFTER_S = 5
"""When a client should try again while the workers are behind."""

Command = tuple[str | bytes, ...]


class CommandStore(Protocol):
    """What this module does with a cache."""

    async def execute(self, commands: Sequence[tuple[str, Command]]) -> list[Any]:
        """Run commands, each with the key that says where; raises the first error."""


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

    async def append(self, events: Sequence[Event]) -> Accepted:
        """Write events. If it fails, some of them may be written: the same events may come again, with their ids.

        Raises:
            UserForgottenError: a user was forgotten; nothing is written.
            OverloadedError: too many events wait for the workers; nothing is written.
            CacheUnavailableError: the cache does not answer, or is full.
        """
        await self._require_room(events)
        by_user: dict[str, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.user_id, []).append(event)
        now_ms = str(time.time_ns() // 1_000_000)
        commands = [*_appends(by_user), _touch(by_user, now_ms), *_entries(events)]
        answers = await self._store.execute(commands)
        new = sum(answers[at] for at, (_, command) in enumerate(commands) if command[0] == "HSETNX")
        return Accepted(len(events), len(events) - new, answers[-1].decode())

    async def _require_room(self, events: Sequence[Event]) -> None:
        users = list(dict.fromkeys(event.user_id for event in events))
        marks = ("HMGET", FORGOTTEN_KEY, *map(tombstone, users))
        forgotten, waiting = await self._store.execute(
            [(FORGOTTEN_KEY, marks), (IN_KEY, ("XLEN", IN_KEY))]
        )
        for at, event in enumerate(events):
            if forgotten[users.index(event.user_id)] is not None:
                raise UserForgottenError(f"events[{at}].user_id")
        if waiting + len(events) > self._max_waiting:
            why = f"{waiting} events wait to be folded, at most {self._max_waiting} may"
            raise OverloadedError(why, RETRY_AFTER_S)


def _appends(by_user: dict[str, list[Event]]) -> Iterator[tuple[str, Command]]:
    """As `models.live.log.append`, without its script: a service may run none (docker/cache/users.acl).

    The version grows after the events are there, so whoever reads it finds them; it may grow without a new one.
    """
    for user, events in by_user.items():
        key = log_key(user)
        for event in events:
            yield key, ("HSETNX", key, event.event_id, event.to_bytes())
        yield key, ("HINCRBY", key, VERSION_FIELD, str(len(events)))


def _touch(by_user: dict[str, list[Event]], now_ms: str) -> tuple[str, Command]:
    marks = [part for user in by_user for part in (now_ms, user)]
    return TOUCHED_KEY, ("ZADD", TOUCHED_KEY, "GT", *marks)


def _entries(events: Sequence[Event]) -> list[tuple[str, Command]]:
    return [(IN_KEY, ("XADD", IN_KEY, "*", EVENT_FIELD, event.to_bytes())) for event in events]
