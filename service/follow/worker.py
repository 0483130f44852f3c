"""The worker: a batch of events from the source, into their users' logs, into the records of every followed generation.

    read -> check -> append to the logs -> refold the users -> acknowledge

The batch is acknowledged last, and every step may be repeated: a worker that is killed anywhere leaves a batch that
another one does again, with the same result. If the cache or the source does not answer, the worker waits and does the
batch again. Two workers at once share the source; of two that fold one user, one finds the record changed, and reads
again.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from models.contract.errors import RequestError
from models.live.event import Event
from models.live.follow_status import FollowStatus, remove_names, write_status
from models.live.keys import FORGOTTEN_KEY, TOUCHED_KEY, log_key, tombstone
from models.live.log import UserLog, append
from models.live.refold import prune, refold
from models.live.window import MAX_LATENESS_S
from service.errors import SourceUnavailableError
from service.follow.metrics import Reason
from service.follow.sources.source import Delivery, Source
from service.follow.targets import Targets

BATCH_EVENTS = 500
WAIT_S = 0.25
"""How long a read waits for the first event."""
LOOK_EVERY_S = 1.0
REPORT_EVERY_S = 2.0
LOG_EVERY_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
"""Pauses after errors of the cache or the source double from the first to the longest."""
log = logging.getLogger(__name__)


@dataclass
class Tally:
    """What a worker did since it started.

    Attributes:
        events: events that were folded, redelivered ones included.
        users: users whose records were made anew, summed over batches.
        dead: events that became dead letters.
        retries: batches that were done again after an error.
    """

    events: int = 0
    users: int = 0
    dead: int = 0
    retries: int = 0


class _ContendedError(Exception):
    """Others kept writing a user's record."""


class Worker:
    """One worker. Used by one thread.

    Attributes:
        tally: what it did.
    """

    def __init__(
        self,
        client: Any,
        source: Source,
        targets: Targets,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
        name: str = "",
    ) -> None:
        """Read nothing until the first step.

        Args:
            client: the cache, redis-py's.
            source: delivers the events.
            targets: the generations to fold into.
            clock: returns the epoch second.
            pause: waits for some seconds.
            name: names the worker among all; empty: a random one.
        """
        self._client, self._source, self.targets = client, source, targets
        self._clock, self._pause = clock, pause
        self._name = name or secrets.token_hex(8)
        self._batch: Sequence[Delivery] = ()
        self._buried: set[str] = set()
        self._has_gap = False  # until a catch-up has begun, whatever fails
        self._look_at_s = self._report_at_s = self._log_at_s = 0.0
        self._status = FollowStatus(0)
        self.tally = Tally()
        self._metrics = targets.metrics

    def run(self, is_stopped: Callable[[], bool]) -> None:
        """Work until `is_stopped`; the batch that was read is finished first, if the cache answers."""
        pause_s = FIRST_PAUSE_S
        while not is_stopped() or (self._batch and pause_s == FIRST_PAUSE_S):
            try:
                self.step(0 if is_stopped() else WAIT_S)
                pause_s = FIRST_PAUSE_S
            except (RedisError, OSError, SourceUnavailableError) as error:
                self.tally.retries += 1
                fields = {"error": str(error), "pause_s": pause_s, "events": len(self._batch)}
                log.warning("cache or source does not answer; trying again", extra=fields)
                self._pause(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except _ContendedError:
                self.tally.retries += 1

    def leave(self) -> None:
        """Say that this worker does not run any more. A cache that does not answer drops its status by itself."""
        try:
            remove_names(self._client, [self._name])
        except (RedisError, OSError) as error:
            log.info("the status is not removed", extra={"error": str(error)})

    def step(self, wait_s: float = 0.0) -> int:
        """Look at the pointers now and then, do one batch, and catch up some users; returns the batch's length.

        Args:
            wait_s: how long to wait for an event if there is nothing else to do.
        """
        now_s = self._clock()
        if now_s >= self._look_at_s or self.targets.is_loading:
            self.targets.look()
            self._look_at_s = now_s + LOOK_EVERY_S
        is_behind = self.targets.catch_up_some()
        if not self._batch:
            self._batch = self._source.read(BATCH_EVENTS, 0 if is_behind else wait_s)
            self._buried.clear()
        self._has_gap |= self._source.has_gap()
        if self._has_gap:
            log.info("catching up from the logs")  # the source says why
            self.targets.catch_up_all()
            self._has_gap = False
        num_done = len(self._batch)
        if num_done:
            self._fold(self._batch)
            self._batch = ()
        self._report()
        return num_done

    def _fold(self, batch: Sequence[Delivery]) -> None:
        events = [event for event in map(self._checked, batch) if event is not None]
        by_user: dict[str, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.user_id, []).append(event)
        users = self._append(by_user)
        fresh = {user: {event.event_id for event in by_user[user]} for user in users}
        logs = self._refold(fresh, {event.user_id: delivery for delivery, event in _pairs(batch)})
        self._source.ack(batch)
        self._prune(logs)
        self.tally.events += len(events)
        self._metrics.did(len(events))
        self.tally.users += len(users)
        self._note(batch)

    def _checked(self, delivery: Delivery) -> Event | None:
        """The event; None if it became a dead letter."""
        event, problem = delivery.event, delivery.problem
        reason: Reason = "unreadable"
        if event is not None:
            try:
                event.check(self._clock())
                problem, reason = self._why_too_late(event), "too_late"
            except RequestError as error:
                problem, reason = str(error), "refused"
        if event is None or problem:
            self._bury(delivery, problem, reason)
            return None
        return event

    def _why_too_late(self, event: Event) -> str:
        cuts = [target.generation.as_of_s for target in self.targets.folded]
        if not cuts or event.ts_s >= min(cuts) - MAX_LATENESS_S:
            return ""
        days = MAX_LATENESS_S // 86_400
        return f"ts_s: got {event.ts_s}, expected at most {days} days before the build's cut, {min(cuts)}"

    def _bury(self, delivery: Delivery, problem: str, reason: Reason) -> None:
        if delivery.position in self._buried:  # this batch is done again
            return
        self._source.bury(delivery, problem)
        self._buried.add(delivery.position)
        self.tally.dead += 1
        self._metrics.buried(reason)
        log.warning("dead letter", extra={"position": delivery.position, "reason": problem})

    def _append(self, by_user: dict[str, list[Event]]) -> list[str]:
        """Add the events to the logs; returns the users, without forgotten ones."""
        forgotten = self._forgotten(by_user)
        users = [user for user in by_user if user not in forgotten]
        if not users:
            return []
        now_ms = int(1000 * self._clock())
        with self._client.pipeline(transaction=False) as pipeline:
            for user in users:
                append(pipeline, user, by_user[user])
            pipeline.zadd(TOUCHED_KEY, dict.fromkeys(users, now_ms), gt=True)
            pipeline.execute()
        for user in self._forgotten(users):  # meanwhile
            self._client.unlink(log_key(user))
            self._client.zrem(TOUCHED_KEY, user)
            users.remove(user)
        return users

    def _forgotten(self, users: Iterable[str]) -> set[str]:
        every = list(users)
        if not every:
            return set()
        marks = self._client.hmget(FORGOTTEN_KEY, [tombstone(user) for user in every])
        return {user for user, mark in zip(every, marks, strict=True) if mark is not None}

    def _refold(
        self, fresh: dict[str, set[str]], latest: dict[str, Delivery]
    ) -> dict[str, UserLog]:
        logs: dict[str, UserLog] = {}
        for target in self.targets.folded if fresh else ():
            outcome = refold(self._client, target, list(fresh), fresh=fresh)
            logs |= outcome.logs
            self.targets.note(target, outcome)
            for user, problem in outcome.failed.items():
                generation = f"{target.generation.model} {target.generation.name}"
                self._bury(latest[user], f"{generation}: {problem}", "not_folded")
            if outcome.contended:
                raise _ContendedError
        return logs

    def _prune(self, logs: dict[str, UserLog]) -> None:
        """Remove events that no window holds any more. Not if other models may need them."""
        cut_s, folded = self.targets.oldest_cut_s, self.targets.folded
        if cut_s is None or not folded or not self.targets.follows_all or self.targets.is_loading:
            return
        length = max(target.length for target in folded)
        for user, kept in logs.items():
            prune(self._client, user, kept, cut_s, length)

    def _note(self, batch: Sequence[Delivery]) -> None:
        arrived_s = [arrived for arrived in map(_arrived_s, batch) if arrived is not None]
        lag_s = max(0.0, self._clock() - min(arrived_s)) if arrived_s else 0.0
        position = batch[-1].position
        self._status = FollowStatus(0, position, round(lag_s, 3), None, self.tally.events)

    def _report(self) -> None:
        now_s = self._clock()
        if now_s < self._report_at_s:
            return
        self._report_at_s = now_s + REPORT_EVERY_S
        backlog, last = self._source.waiting(), self._status
        status = FollowStatus(
            int(now_s),
            last.position,
            last.lag_s if backlog else 0.0,
            backlog,
            self.tally.events,
            self.targets.behind,
            self._source.counts_all,
        )
        self._metrics.report(status.lag_s, backlog, status.behind)
        write_status(self._client, self._name, status)
        if now_s >= self._log_at_s:
            self._log_at_s = now_s + LOG_EVERY_S
            fields = {"users": self.tally.users, "dead": self.tally.dead, "lag_s": last.lag_s}
            behind = sum(status.behind.values())
            more = {"events": self.tally.events, "waiting": backlog, "users_behind": behind}
            log.info("following", extra={**fields, **more})


def _pairs(batch: Sequence[Delivery]) -> Iterable[tuple[Delivery, Event]]:
    return [(delivery, delivery.event) for delivery in batch if delivery.event is not None]


def _arrived_s(delivery: Delivery) -> float | None:
    """When an entry came into the cache's stream, whose ids begin with it; None for other sources."""
    milliseconds, _, rest = delivery.position.partition("-")
    return int(milliseconds) / 1000 if rest.isdigit() and milliseconds.isdigit() else None
