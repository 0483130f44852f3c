"""Memory that live events take beside the records: base histories, logs of users, streams (`models/live/keys.py`).

Sizes of logs and streams were measured with MEMORY USAGE on a server that allocates with libc (Valkey 9.1): events with
ids of 32 characters, users of 16, as `POST /v1/events` and its clients make them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from statistics import mean

from builder.publish.cache import CacheClient, cache_errors
from models.contract.generation import Generation
from models.live.keys import MAX_CHANGED, MAX_DEAD, history_pattern

LOG_BYTES = 220
"""A log without events: key, hash, version."""
LOG_EVENT_BYTES = 200
"""An event in a log: 190 to 200 bytes from 5 events on."""
TOUCHED_BYTES = 77
"""A user in the sorted set of users with live events."""
WAITING_EVENT_BYTES = 130
DEAD_LETTER_BYTES = 217
CHANGED_BYTES = 58
MAX_WAITING = 1_000_000
"""Events that may wait, as `ABSORB_MAX_EVENTS_WAITING` has it by default: so many wait if no worker runs for long."""
STREAM_BYTES: Mapping[str, int] = {
    "waiting events": MAX_WAITING * WAITING_EVENT_BYTES,
    "dead letters": MAX_DEAD * DEAD_LETTER_BYTES,
    "changed records": MAX_CHANGED * CHANGED_BYTES,
}
"""Stream -> its memory when it is full."""


@dataclass(frozen=True)
class Live:
    """What following live events takes.

    Attributes:
        history_bytes: memory of a user's base history in one generation, key and overhead included; 0: the generation
            is published without them.
        events: live events of a user in the log, on average.
        stream_bytes: memory of all streams.
    """

    history_bytes: float = 0.0
    events: float = 0.0
    stream_bytes: int = 0

    @property
    def log_bytes(self) -> float:
        """Memory of a user's log, and of the user in the list of those with live events; 0 without events."""
        log = LOG_BYTES + TOUCHED_BYTES + LOG_EVENT_BYTES * self.events
        return log if self.events else 0.0


def history_key_bytes(model: str, generation_bytes: int, user_id_bytes: int) -> int:
    """Size of the key of a base history."""
    return len(f"absorb.history:{model}::") + generation_bytes + user_id_bytes


def measured_history_bytes(
    client: CacheClient, generation: Generation, keys: int, table_bytes: int
) -> float:
    """Mean memory of a base history in the cache, key included; 0 if the generation has none.

    Args:
        client: connection to the cache.
        generation: its histories are measured.
        keys: how many.
        table_bytes: memory of a key's entry in the server's table, which MEMORY USAGE leaves out.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    with cache_errors(client):
        pattern = history_pattern(generation.model, generation.place)
        found = list(islice(client.scan_iter(pattern, keys), keys))
        used = [client.memory_usage(key, samples=0) for key in found]
    sizes = [int(size) + table_bytes for size in used if size]
    return float(mean(sizes)) if sizes else 0.0
