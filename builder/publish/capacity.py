"""Memory that a cache needs: users × memory of a record, by record dtype, publish mode, replicas and shards.

Beside records there are base histories, logs of live events and streams (`builder/publish/live_capacity.py`).

A record takes more than its bytes: the key, the server's objects and table, and what the allocator rounds up. This
overhead is measured on the keys of a cache where there are some (MEMORY USAGE). Elsewhere it is computed for jemalloc,
which the usual Redis and Valkey packages use and which rounds up by at most 25%.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from statistics import mean
from typing import Literal

from builder.publish.cache import CacheClient, cache_errors
from builder.publish.live_capacity import Live, history_key_bytes, measured_history_bytes
from models.contract.errors import RecordError
from models.contract.generation import Generation
from models.contract.record import decode_record, record_bytes
from models.contract.state_spec import RECORD_DTYPES, RecordDtype, StateSpec, stored_rows
from models.live.history import history_bytes

Allocator = Literal["jemalloc", "libc"]
GIB = 1 << 30
TABLE_BYTES = 18
"""Entry of a key in the server's table: 15 to 19 bytes were measured at 8,000 to 20,000 keys (Valkey 9.1)."""
OBJECT_BYTES = 20
"""Header and length in the object of a key."""
GENERATION_NAME_BYTES = len("20261122T031500Z-0a1b2c")
HEADROOM = 1.15
"""maxmemory over the memory of the records: for clients' buffers, rewriting the append-only file, fragmentation."""
SERVER_BYTES = 16 << 20
"""Memory of an empty server."""
SAMPLE_KEYS = 200
BUILDS: Mapping[str, int] = {"rolling": 1, "blue_green": 2, "blue_green_peak": 3}
"""Mode -> generations that the cache holds: one; one and the previous; and one more while it is being written."""


@dataclass(frozen=True)
class Load:
    """The records to store.

    Attributes:
        model: name that the model is served under.
        users: number of records.
        record_bytes: dtype -> mean size of a record; the largest size where `is_largest`.
        key_bytes: size of a key.
        overhead_bytes: dtype -> memory per key beside the key and its record; measured or computed.
        measured: number of keys that sizes and overhead were measured on; 0: they are computed.
        is_largest: whether the sizes are those of a user who fills every row; others have smaller records.
        live: what following live events takes.
    """

    model: str
    users: int
    record_bytes: Mapping[str, int]
    key_bytes: int
    overhead_bytes: Mapping[str, float]
    measured: int = 0
    is_largest: bool = False
    live: Live = field(default_factory=Live)


@dataclass(frozen=True)
class Need:
    """Memory that one record dtype needs.

    Attributes:
        dtype: dtype of the records.
        record_bytes: size of a record, as in `Load`.
        user_bytes: memory of a user in the cache, key and overhead included.
        parts: mode -> what is stored -> GiB in all primaries: records, base histories, live logs, streams.
        gib: mode -> GiB of all of it in all primaries.
        gib_with_replicas: mode -> GiB of all of it in all servers.
        maxmemory_bytes: mode -> maxmemory of each server, with headroom.
    """

    dtype: str
    record_bytes: int
    user_bytes: float
    parts: Mapping[str, Mapping[str, float]]
    gib: Mapping[str, float]
    gib_with_replicas: Mapping[str, float]
    maxmemory_bytes: Mapping[str, int]


def make_plan(load: Load, replicas: int, shards: int) -> list[Need]:
    """Compute the memory for each dtype of `load`.

    Args:
        load: the records to store.
        replicas: number of copies of each shard beside its primary.
        shards: number of primaries.
    """
    needs = []
    for dtype, size in load.record_bytes.items():
        user = load.key_bytes + size + load.overhead_bytes[dtype]
        parts = {mode: _parts(load, user, builds) for mode, builds in BUILDS.items()}
        all_bytes = {mode: sum(part.values()) for mode, part in parts.items()}
        gib = {mode: total / GIB for mode, total in all_bytes.items()}
        each = {
            mode: round(HEADROOM * total / shards) + SERVER_BYTES
            for mode, total in all_bytes.items()
        }
        copies = {mode: (1 + replicas) * total for mode, total in gib.items()}
        in_gib = {
            mode: {name: total / GIB for name, total in part.items()}
            for mode, part in parts.items()
        }
        needs.append(Need(dtype, size, user, in_gib, gib, copies, each))
    return needs


def _parts(load: Load, user_bytes: float, builds: int) -> dict[str, float]:
    """What is stored -> its bytes. A generation has records and base histories; logs and streams are there once."""
    return {
        "records": builds * load.users * user_bytes,
        "base histories": builds * load.users * load.live.history_bytes,
        "live logs": load.users * load.live.log_bytes,
        "streams": float(load.live.stream_bytes),
    }


def load_of_spec(model: str, users: int, spec: StateSpec, recent: int, user_id_bytes: int) -> Load:
    """The load of a model's states, in each dtype, if every user fills every row.

    Args:
        model: name that the model is served under.
        users: number of records.
        spec: state spec of the model.
        recent: number of latest events in a record.
        user_id_bytes: average length of a user's id.
    """
    sizes: dict[str, int] = {
        dtype: record_bytes(spec, dtype, user_id_bytes, recent) for dtype in RECORD_DTYPES
    }
    is_largest = any(tensor.has_row_count for tensor in spec)
    return replace(load_of_bytes(model, users, sizes, user_id_bytes), is_largest=is_largest)


def load_of_bytes(model: str, users: int, sizes: Mapping[str, int], user_id_bytes: int) -> Load:
    """The load of records of known size; the overhead per key is computed."""
    key = len(f"absorb:{model}::") + GENERATION_NAME_BYTES + user_id_bytes
    return Load(model, users, sizes, key, _computed_overhead(key, sizes))


def computed_history(model: str, user_id_bytes: int, user_fields: int, events: int) -> float:
    """Memory of a user's base history, key and overhead included.

    Args:
        model: name that the model is served under.
        user_id_bytes: length of the user's id.
        user_fields: number of profile fields.
        events: number of events.
    """
    key = history_key_bytes(model, GENERATION_NAME_BYTES, user_id_bytes)
    size = history_bytes(user_id_bytes, user_fields, events)
    return float(stored_bytes(key, size, "jemalloc"))


def _computed_overhead(key: int, sizes: Mapping[str, int]) -> dict[str, float]:
    return {
        dtype: float(stored_bytes(key, size, "jemalloc") - key - size)
        for dtype, size in sizes.items()
    }


def stored_bytes(key: int, value: int, allocator: Allocator) -> int:
    """Memory of a key and its value in the server."""
    length = 3 if value < 1 << 8 else 5 if value < 1 << 16 else 9
    rounded = _jemalloc if allocator == "jemalloc" else _libc
    return rounded(value + length + 1) + rounded(OBJECT_BYTES + key) + TABLE_BYTES


def _libc(size: int) -> int:
    return max(24, -(-(size + 8) // 16) * 16 - 8)


def _jemalloc(size: int) -> int:
    """Round up to jemalloc's size classes: multiples of 16 up to 128, then four classes per doubling."""
    step = 16 if size <= 128 else 1 << (size - 1).bit_length() - 3
    return -(-size // step) * step


def measured(client: CacheClient, generation: Generation, load: Load, spec: StateSpec) -> Load:
    """The load, with the mean sizes and the overhead measured on the keys of a generation.

    The generation has records of one dtype. Sizes of the other dtypes are computed from the rows that these records
    hold; the overhead of the other dtypes stays computed.

    Args:
        client: connection to the cache.
        generation: its keys are measured.
        load: what was computed.
        spec: state spec of the generation's artifact.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    with cache_errors(client):
        keys = list(islice(client.scan_iter(generation.key_pattern(), SAMPLE_KEYS), SAMPLE_KEYS))
        read = [(key, client.get(key), client.memory_usage(key, samples=0)) for key in keys]
    found = [
        (len(key), raw, int(used)) for key, raw, used in read if isinstance(raw, bytes) and used
    ]
    if not found:
        return load
    key_bytes = round(mean(key for key, _, _ in found))
    sizes = _mean_sizes([raw for _, raw, _ in found], spec, generation.artifact_id) or dict(
        load.record_bytes
    )
    sizes[generation.dtype] = round(mean(len(raw) for _, raw, _ in found))
    over = _computed_overhead(key_bytes, sizes)
    rest = float(mean(used - key - len(raw) for key, raw, used in found))
    over[generation.dtype] = rest + TABLE_BYTES
    history = measured_history_bytes(client, generation, SAMPLE_KEYS, TABLE_BYTES)
    live = replace(load.live, history_bytes=history)
    return Load(load.model, load.users, sizes, key_bytes, over, len(found), live=live)


def _mean_sizes(raws: Sequence[bytes], spec: StateSpec, artifact_id: str) -> dict[str, int]:
    """Dtype -> mean size of these users' records in it; empty if none can be read."""
    by_dtype: dict[RecordDtype, list[int]] = {dtype: [] for dtype in RECORD_DTYPES}
    for raw in raws:
        try:
            record = decode_record(raw, spec, artifact_id)
        except RecordError:  # damaged, or of another artifact while a rolling publish runs
            continue
        rows, user = stored_rows(record.state, spec), len(record.user_id.encode())
        for dtype, sizes in by_dtype.items():
            sizes.append(record_bytes(spec, dtype, user, len(record.recent), rows))
    return {dtype: round(mean(sizes)) for dtype, sizes in by_dtype.items() if sizes}
