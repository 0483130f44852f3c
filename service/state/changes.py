"""Follows the stream of changed records, and drops changed users from the tiers of this process.

The worker that folds events into states writes a record first, and appends the entry afterwards. A read of the cache
that begins after this process has read the entry therefore returns the new record; one that began before is outdated
(`OpenReads`).
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from models.contract.errors import AbsorbError
from models.contract.generation import GENERATION_NAME, MODEL_NAME
from models.live.keys import FORGOTTEN_FIELD, MODEL_FIELD, PLACE_FIELD, USER_FIELD
from service.state.lookup import TieredStates
from service.state.open_reads import Key
from service.store.changes import START, ChangeFeed, Changes, Position

WAIT_S = 1.0
"""Seconds that one read waits for an entry."""
PAUSE_S = 0.005
"""Seconds between two reads: during a burst, one read returns many entries, and the service keeps its time."""
RETRY_S = 0.5
"""Seconds after a failed read. The first successful one drops everything."""

FIELDS = tuple(name.encode() for name in (MODEL_FIELD, PLACE_FIELD, USER_FIELD))

ChangeResult = Literal["dropped", "elsewhere", "forgotten", "malformed"]
"""What became of an entry: its user was dropped from the tiers; it is of a generation that does not serve here; a user
was forgotten, and dropped from every generation; it cannot be read."""

OnForgotten = Callable[[str | None], None]

log = logging.getLogger(__name__)


def _nobody_listens(user: str | None) -> None:
    """Default of `ChangeReader.run`."""


class ChangeReader:
    """Reads the stream in the background.

    Entries may be lost: the stream is capped, a server may restart without its last second of writes, a failover may
    lose some. After each new connection, and when the stream's positions show a gap, all entries of the tiers are
    dropped, since any of them may be outdated.

    Attributes:
        results: outcome -> number of entries.
        num_gaps: how often everything was dropped; the first connection is no gap.
        is_following: whether the last read succeeded.
    """

    def __init__(self, feed: ChangeFeed, states: TieredStates) -> None:
        """Read nothing yet.

        Args:
            feed: the stream.
            states: the tiers.
        """
        self._feed = feed
        self._states = states
        self._position: Position | None = None
        self._is_first = True
        self._problem: str | None = None
        self.results: dict[ChangeResult, int] = dict.fromkeys(get_args(ChangeResult), 0)
        self.num_gaps = 0
        self.is_following = False
        self._on_forgotten: OnForgotten = _nobody_listens

    async def run(self, on_forgotten: OnForgotten | None = None) -> None:
        """Read until cancelled.

        Args:
            on_forgotten: called with the `tombstone` of each user who is forgotten, and with None after each new
                connection and gap, when some may have been missed.
        """
        self._on_forgotten = on_forgotten or _nobody_listens
        while True:
            try:
                await self.read()
            except AbsorbError as error:
                self._fail(str(error))
            except (
                Exception
            ) as error:  # outermost handler: the task must not end while the service runs
                log.exception("reading the changed records failed")
                self._fail(f"{type(error).__name__}: {error}")
            await asyncio.sleep(PAUSE_S if self.is_following else RETRY_S)

    async def read(self, wait_s: float = WAIT_S) -> None:
        """Read once, and drop the users whose records have changed.

        Raises:
            CacheUnavailableError: no answer in time, the connection was lost, or the answer is an error.
            CorruptRecordError: the key holds no stream.
        """
        try:
            if self._position is None:
                await self._begin()
            else:
                self._take(self._position, await self._feed.read(self._position, wait_s))
        except BaseException:
            self._position = None
            self.is_following = False
            raise

    async def _begin(self) -> None:
        # In this order: an entry that is added after the position was read will be read as well.
        self._position = await self._feed.position()
        self._states.drop_all()
        self._on_forgotten(None)
        self.num_gaps += not self._is_first
        self._is_first = False
        self.is_following = True
        if self._problem is not None:
            log.info("changed records can be read again")
            self._problem = None

    def _take(self, position: Position, changes: Changes) -> None:
        for _, fields in changes.entries:
            self.results[self._drop(fields)] += 1
        reached = changes.entries[-1][0] if changes.entries else position
        if _is_gap(position, reached, changes):
            self.num_gaps += 1
            self._states.drop_all()
            self._on_forgotten(None)
            reached = changes.last or START
        self._position = reached

    def _drop(self, fields: Mapping[bytes, bytes]) -> ChangeResult:
        user = fields.get(FORGOTTEN_FIELD.encode())
        if user is not None:
            name = user.decode(errors="replace")  # a hash
            self._states.forget(name)
            self._on_forgotten(name)
            return "forgotten"
        change = read_change(fields)
        if change is None:
            return "malformed"
        return "dropped" if self._states.changed(change) else "elsewhere"

    def _fail(self, problem: str) -> None:
        if self._problem is None:
            log.warning("changed records cannot be read", extra={"error": problem})
        self._problem = problem

    async def close(self) -> None:
        """Close the connection."""
        await self._feed.close()


def _is_gap(position: Position, reached: Position, changes: Changes) -> bool:
    """Whether entries after `position` may have been lost before they were read.

    Args:
        position: the last entry that was read before.
        reached: the last entry that is read now.
        changes: result of the read.
    """
    if changes.last is None or changes.last < reached:
        return position != START  # the stream is gone, or it is another one
    if changes.first is None:
        return changes.last > reached
    if position == START:
        return changes.added > changes.length
    return changes.first > position


def read_change(fields: Mapping[bytes, bytes]) -> Key | None:
    """Model, place and user id of an entry; None if it does not name a record."""
    try:
        model, place, user_id = (fields[name].decode() for name in FIELDS)
    except (KeyError, UnicodeDecodeError):
        return None
    is_named = MODEL_NAME.fullmatch(model) and GENERATION_NAME.fullmatch(place)
    return (model, place, user_id) if is_named else None


class ChangeCollector(Collector):
    """The counts as metrics, made at each scrape."""

    def __init__(self, changes: ChangeReader) -> None:
        self._changes = changes

    def collect(self) -> Iterator[Metric]:
        """The current counts."""
        changes = self._changes
        results = CounterMetricFamily(
            "absorb_state_changes",
            "Changed records that this process was told of, by what it did.",
            labels=["result"],
        )
        for result, number in changes.results.items():
            results.add_metric([result], number)
        yield results
        yield CounterMetricFamily(
            "absorb_state_change_gaps",
            "Times that changes may have been missed, so that all records in memory were dropped.",
            changes.num_gaps,
        )
        yield GaugeMetricFamily(
            "absorb_state_changes_followed",
            "Whether this process reads which records change: 1 or 0.",
            float(changes.is_following),
        )
