"""How far the workers are: each writes a status of its own to the cache every few seconds; services read all of them.

    absorb:{control}:followers              set: names of the workers
    absorb:{control}:follower:<name>        JSON of a `FollowStatus`, which the cache drops after `TTL_S`

The name of a worker that died stays in the set until another worker reports; without a status it counts for nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from models.contract.strict_json import read_json
from models.live.keys import FOLLOWERS_KEY, follower_key

TTL_S = 15
"""A status that is not renewed disappears: its worker does not run any more."""


@runtime_checkable
class StatusCache(Protocol):
    """What is done with a client of the cache that waits for answers: redis-py's has it."""

    def smembers(self, name: str) -> Any:
        """Members of a set."""

    def pipeline(self, transaction: bool = True) -> Any:
        """Commands that are sent together."""


@dataclass(frozen=True)
class FollowStatus:
    """What one worker knows.

    Attributes:
        at_s: epoch second of the status.
        position: place of the last folded event in its source; empty before the first.
        lag_s: seconds from the arrival of the oldest event of the last batch until its states were written; while
            events wait, at least their waiting time so far.
        backlog: events that wait in the source; None: the source cannot tell.
        events: events folded since the worker's start.
        behind: model -> users whose records are still being caught up; 0: complete.
        counts_all: whether `backlog` counts the events of all workers, not only those that this one will get.
    """

    at_s: int
    position: str = ""
    lag_s: float = 0.0
    backlog: int | None = None
    events: int = 0
    behind: Mapping[str, int] = field(default_factory=dict)
    counts_all: bool = True

    def to_bytes(self) -> bytes:
        """The status as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "FollowStatus":
        """Inverse of `to_bytes`.

        Raises:
            ValueError: the bytes are no status.
        """
        try:
            status = cls(**read_json(raw))
        except TypeError as error:
            raise ValueError(f"status of the worker: {error}") from error
        counts = [*status.behind.values()] if isinstance(status.behind, dict) else [None]
        counts += [] if status.backlog is None else [status.backlog]
        is_right = type(status.at_s) is int and type(status.lag_s) in (int, float)
        if not is_right or not all(type(count) is int for count in counts):
            raise ValueError(f"status of the worker: got {raw[:100]!r}")
        return status


@dataclass(frozen=True)
class Following:
    """What all workers that run know together.

    Attributes:
        num_workers: number of workers with a status.
        at_s: epoch second of the oldest of these statuses.
        lag_s: largest lag of a worker.
        backlog: events that wait for any of the workers; None: at least one worker's source cannot tell.
        behind: model -> users that the worker with most of them still has to catch up; each worker catches up all.
    """

    num_workers: int
    at_s: int
    lag_s: float
    backlog: int | None
    behind: Mapping[str, int]


def following(raws: Iterable[bytes]) -> Following | None:
    """Join the workers' statuses; None if there is none. One that cannot be read is left out."""
    statuses = list(_readable(raws))
    if not statuses:
        return None
    behind: dict[str, int] = {}
    for status in statuses:
        for model, users in status.behind.items():
            behind[model] = max(users, behind.get(model, 0))
    return Following(
        len(statuses),
        min(status.at_s for status in statuses),
        max(status.lag_s for status in statuses),
        _backlog(statuses),
        behind,
    )


def _readable(raws: Iterable[bytes]) -> Iterable[FollowStatus]:
    for raw in raws:
        try:
            yield FollowStatus.from_bytes(raw)
        except ValueError:  # of a worker of another version
            continue


def _backlog(statuses: Sequence[FollowStatus]) -> int | None:
    counts = [status.backlog for status in statuses if status.backlog is not None]
    if len(counts) < len(statuses):
        return None
    common = [status.backlog or 0 for status in statuses if status.counts_all]
    own = [status.backlog or 0 for status in statuses if not status.counts_all]
    return max(common, default=0) + sum(own)


def write_status(client: StatusCache, worker: str, status: FollowStatus) -> None:
    """Write a worker's status, and remove the names of workers that died. Errors of the client are not translated."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.set(follower_key(worker), status.to_bytes(), ex=TTL_S)
        pipeline.sadd(FOLLOWERS_KEY, worker)
        pipeline.execute()
    names = follower_names(client.smembers(FOLLOWERS_KEY))
    dead = [name for name, raw in zip(names, _statuses(client, names), strict=True) if raw is None]
    if dead:
        remove_names(client, dead)


def remove_names(client: StatusCache, workers: Sequence[str]) -> None:
    """Remove workers that do not run any more. Errors of the client are not translated."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.srem(FOLLOWERS_KEY, *workers)
        pipeline.execute()


def read_statuses(client: StatusCache) -> list[bytes]:
    """The statuses of all workers that run. Errors of the client are not translated."""
    names = follower_names(client.smembers(FOLLOWERS_KEY))
    return [raw for raw in _statuses(client, names) if raw is not None]


def follower_names(members: Iterable[bytes | str]) -> list[str]:
    """The workers' names from what `SMEMBERS` returns."""
    return sorted(
        member.decode(errors="replace") if isinstance(member, bytes) else member
        for member in members
    )


def _statuses(client: StatusCache, names: Sequence[str]) -> list[bytes | None]:
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.get(follower_key(name))
        return list(pipeline.execute())
