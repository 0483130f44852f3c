"""Catching up: records of a generation and the events that came before somebody folded them into it.

A publish does it before its flip, so that events between the build's cut and the flip are in before the generation
serves. A worker does it for each generation that it begins to follow (at its start, after a publish or a rollback) and
after the stream lost entries: the logs hold every event, and `TOUCHED_KEY` names whose logs have any.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from models.contract.generation import Generation
from models.live.event import MAX_AHEAD_S
from models.live.keys import TOUCHED_KEY
from models.live.refold import Cache, Target, refold
from models.live.window import MAX_LATENESS_S

BATCH_USERS = 200


@runtime_checkable
class TouchedCache(Cache, Protocol):
    """A cache client that also reads sorted sets."""

    def zrangebyscore(self, name: Any, min: Any, max: Any) -> Any:
        """Members between two scores."""


@dataclass
class Caught:
    """What a catch-up did.

    Attributes:
        users: number of users that had events.
        written: number of records that were written.
        unfollowed: number of users whose records have no base history.
        failed: user -> why no record can be made.
        left: users that others kept writing; a worker has them.
    """

    users: int = 0
    written: int = 0
    unfollowed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def touched_users(client: TouchedCache, generation: Generation) -> list[str]:
    """Users who have live events that a generation may not know."""
    since_s = generation.as_of_s - MAX_LATENESS_S - MAX_AHEAD_S
    members = client.zrangebyscore(TOUCHED_KEY, 1000 * since_s, "+inf")
    return [member.decode() if isinstance(member, bytes) else member for member in members]


def catch_up(
    client: TouchedCache, target: Target, still_right: Callable[[], bool] = lambda: True
) -> Caught:
    """Bring every touched user's record up to date.

    Args:
        client: the cache.
        target: the generation.
        still_right: asked before each batch; False ends the catch-up, such as when a lock is lost.
    """
    caught = Caught()
    for users in batches(touched_users(client, target.generation)):
        if not still_right():
            break
        outcome = refold(client, target, users, only_behind=True)
        caught.users += len(users)
        caught.written += len(outcome.written)
        caught.unfollowed += len(outcome.unfollowed)
        caught.failed |= outcome.failed
        caught.left += outcome.contended
    return caught


def batches(users: Sequence[str]) -> Iterator[Sequence[str]]:
    """The users in parts that fit into memory."""
    for start in range(0, len(users), BATCH_USERS):
        yield users[start : start + BATCH_USERS]
