"""Events of the cache's own stream, which POST /v1/events writes (`models/live/keys.py`)."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from redis.exceptions import RedisError, ResponseError

from models.live.event import Event, EventError
from models.live.keys import DEAD_KEY, DONE_KEY, EVENT_FIELD, GROUP, IN_KEY, MAX_DEAD, REASON_FIELD
from service.errors import SourceUnavailableError
from service.follow.sources.source import Delivery

CLAIM_EVERY_S = 5.0
"""How often messages of other workers are looked for."""
CLAIM_IDLE_S = 30.0
"""Seconds without an acknowledgement after which a message's worker is taken for dead."""
NO_GROUP = "NOGROUP"
# One step: an entry that is acknowledged and not removed would count as waiting for ever.
ACK = """
redis.call('xack', KEYS[1], unpack(ARGV))
local removed = redis.call('xdel', KEYS[1], unpack(ARGV, 2))
redis.call('incrby', KEYS[2], removed)
return removed
"""
# Entries that are neither in the stream nor were removed by a worker. In one step, or an ack between would count.
VANISHED = """
if redis.call('exists', KEYS[1]) == 0 then return 0 end
local facts, list = {}, redis.call('xinfo', 'stream', KEYS[1])
for i = 1, #list, 2 do facts[list[i]] = list[i + 1] end
return facts['entries-added'] - facts['length'] - (tonumber(redis.call('get', KEYS[2])) or 0)
"""
FIELD = EVENT_FIELD.encode()
log = logging.getLogger(__name__)


@runtime_checkable
class StreamClient(Protocol):
    """What this source does with a client of the cache: redis-py's has it, for one server and for a cluster."""

    def execute_command(self, *args: Any) -> Any:
        """Run a command, and return its answer as redis-py parses it."""

    def xpending_range(
        self, name: str, groupname: str, min: str, max: str, count: int, consumername: str
    ) -> Any:
        """Messages that a consumer has not acknowledged."""


class RedisStreamSource:
    """A consumer of the group of all workers.

    Entries that were folded are removed from the stream, so its length is what waits. A worker that dies leaves its
    entries pending; others claim them.

    Attributes:
        name: names the source in logs and metrics.
        counts_all: True: `waiting` counts the entries of the whole stream.
    """

    name = "redis"
    counts_all = True

    def __init__(
        self,
        client: StreamClient,
        consumer: str,
        claim_idle_s: float = CLAIM_IDLE_S,
        claim_every_s: float = CLAIM_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Join the group at the first read.

        Args:
            client: the cache; answers come as bytes.
            consumer: name of this worker, which no other one has.
            claim_idle_s: seconds without an acknowledgement after which messages of others are taken over.
            claim_every_s: seconds between two looks for them.
            clock: returns seconds.
        """
        self._client = client
        self._consumer = consumer
        self._claim_idle_ms = int(1000 * claim_idle_s)
        self._claim_every_s = claim_every_s
        self._clock = clock
        self._claim_at_s = clock()
        self._cursor = b"0-0"
        self._has_gap = False
        self._vanished: int | None = None

    def read(self, max_events: int, wait_s: float) -> Sequence[Delivery]:
        """Messages that dead workers left, else new ones; raises as `Source.read` does."""
        with _translated():
            claimed = self._claimed(max_events)
            if claimed:
                return claimed
            # The server ends a wait, however short, only when it looks next, 10 times a second.
            waiting = ("BLOCK", max(1, int(1000 * wait_s))) if wait_s > 0 else ()
            answer = self._in_group(
                "XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", max_events,
                *waiting, "STREAMS", IN_KEY, ">",
            )  # fmt: skip
        return [delivery for _, entries in _pairs(answer) for delivery in _deliveries(entries)]

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages and remove them; raises as `Source.ack` does."""
        if not deliveries:
            return
        positions = [delivery.position for delivery in deliveries]
        with _translated():
            self._client.execute_command("EVAL", ACK, 2, IN_KEY, DONE_KEY, GROUP, *positions)

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Add a message to the stream of dead letters; raises as `Source.bury` does."""
        with _translated():
            self._client.execute_command(
                "XADD", DEAD_KEY, "MAXLEN", "~", MAX_DEAD, "*",
                EVENT_FIELD, delivery.raw, REASON_FIELD, reason, "position", delivery.position,
            )  # fmt: skip

    def waiting(self) -> int | None:
        """Length of the stream; None if the cache does not answer."""
        try:
            return int(self._client.execute_command("XLEN", IN_KEY))
        except (RedisError, OSError):
            return None

    def has_gap(self) -> bool:
        """Whether the stream or the group was made again, or entries vanished that no worker has done."""
        found, self._has_gap = self._has_gap, False
        return found

    def close(self) -> None:
        """Leave the group, unless messages of this worker are pending: others find them by its name."""
        try:
            pending = self._client.xpending_range(IN_KEY, GROUP, "-", "+", 1, self._consumer)
            if not pending:
                self._client.execute_command("XGROUP", "DELCONSUMER", IN_KEY, GROUP, self._consumer)
        except (RedisError, OSError) as error:
            log.info("the group is not left", extra={"error": str(error)})

    def _claimed(self, max_events: int) -> Sequence[Delivery]:
        """Take over messages whose workers are dead, now and then, and on until there are none."""
        now_s = self._clock()
        if now_s < self._claim_at_s:
            return []
        cursor, entries, *gone = self._in_group(
            "XAUTOCLAIM", IN_KEY, GROUP, self._consumer, self._claim_idle_ms, self._cursor,
            "COUNT", max_events,
        )  # fmt: skip
        self._cursor = cursor
        if cursor == b"0-0":
            self._claim_at_s = now_s + self._claim_every_s
            self._look_for_vanished()
        if gone and gone[0]:
            log.warning("entries of the stream were lost", extra={"entries": len(gone[0])})
            self._has_gap = True
        return _deliveries(entries)

    def _look_for_vanished(self) -> None:
        """Note a gap if entries were trimmed or deleted by others, whether a worker had read them or not."""
        before = self._vanished
        self._vanished = int(self._client.execute_command("EVAL", VANISHED, 2, IN_KEY, DONE_KEY))
        if before is not None and self._vanished != before:
            log.warning("entries of the stream were trimmed or deleted by others")
            self._has_gap = True

    def _in_group(self, *command: Any) -> Any:
        """Run a command of the group, which is made where it is missing: at the first start, or in an emptied cache."""
        try:
            return self._client.execute_command(*command)
        except ResponseError as error:
            if NO_GROUP not in str(error):
                raise
        self._make_group()
        return self._client.execute_command(*command)

    def _make_group(self) -> None:
        """Make the group, from the stream's first entry on. It was lost if workers have removed entries before."""
        has_worked = bool(self._client.execute_command("EXISTS", DONE_KEY))
        try:
            self._client.execute_command("XGROUP", "CREATE", IN_KEY, GROUP, "0", "MKSTREAM")
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # another worker was faster
                raise
        if has_worked:
            log.warning("the stream of events was lost")
        else:
            log.info("the stream of events is new: no worker has folded its events before")
        self._has_gap = True


def _deliveries(entries: Any) -> list[Delivery]:
    return [_delivery(position.decode(), fields) for position, fields in entries]


def _delivery(position: str, fields: Any) -> Delivery:
    values = _fields(fields)
    if FIELD not in values:
        raw = repr(values)[:1000].encode()
        return Delivery(position, raw, None, f"entry: got no field {EVENT_FIELD!r}, expected one")
    raw = values[FIELD]
    try:
        return Delivery(position, raw, Event.from_bytes(raw))
    except EventError as error:
        return Delivery(position, raw, None, str(error))


def _pairs(answer: Any) -> Any:
    """Stream -> entries, as RESP2 and RESP3 give them; nothing came: empty."""
    if not answer:
        return []
    return answer.items() if isinstance(answer, dict) else answer


def _fields(fields: Any) -> dict[bytes, bytes]:
    if isinstance(fields, dict):
        return fields
    flat = list(fields or [])
    return dict(zip(flat[::2], flat[1::2], strict=True))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise SourceUnavailableError("redis", str(error)) from error
