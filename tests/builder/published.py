"""Small records to publish, and checks of the cache afterwards."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from builder.publish.blue_green import publish
from builder.publish.cache import CacheClient
from builder.publish.generations import count_all, new_generation, read_pointer
from models.contract.generation import Generation, Pointer, lock_key
from models.contract.record import UserRecord, decode_record, encode_record
from models.contract.state_spec import TensorSpec

SPEC = (TensorSpec("rows", (4, 8)), TensorSpec("counts", (4,)))
ARTIFACT = "0123456789abcdef" * 2
NOW = datetime(2026, 11, 22, 3, 15, tzinfo=UTC)


def generation_of(num_users: int, model: str = "lrea") -> Generation:
    return new_generation(model, ARTIFACT, num_users, 7, "fp16", NOW)


def raw_record(user_id: str, value: float = 0.0, artifact_id: str = ARTIFACT) -> bytes:
    state = {"rows": np.full((4, 8), value, np.float32), "counts": np.zeros(4, np.float32)}
    record = UserRecord(user_id, 7, np.array([3], np.int32), state)
    return encode_record(record, SPEC, artifact_id, "fp16")


def records(num_users: int, value: float = 0.0) -> Iterator[tuple[str, bytes]]:
    for number in range(num_users):
        yield f"user:{number}", raw_record(f"user:{number}", value)


def publish_new(client: CacheClient, num_users: int = 20, value: float = 0.0) -> Pointer:
    return publish(client, generation_of(num_users), records(num_users, value), SPEC)


def assert_whole(client: CacheClient, generation: Generation) -> None:
    """Every record is there and can be read by the artifact."""
    keys = list(client.scan_iter(generation.key_pattern(), 1000))
    assert len(keys) == generation.num_users
    for key, raw in zip(keys, client.mget(keys), strict=True):
        assert isinstance(raw, bytes)
        decode_record(raw, SPEC, generation.artifact_id, key.decode().split(":", 3)[3])


def assert_only(client: CacheClient, pointer: Pointer | None, model: str = "lrea") -> None:
    """Check that the cache holds only the pointer's generations of the model, complete, and no lock."""
    kept = [g for g in (pointer.current, pointer.previous) if g] if pointer else []
    assert read_pointer(client, model)[0] == pointer
    assert count_all(client).get(model, {}) == {g.name: g.num_users for g in kept}
    for generation in kept:
        assert_whole(client, generation)
    assert not client.exists(lock_key(model))
