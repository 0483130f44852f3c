"""Publish a generation: write every record, read back, and only then flip the pointer.

Until the flip nothing that serves is touched, so a builder may die at any moment: the old generation goes on serving,
and the next publish removes what the dead one left. At most three generations lie in the cache at once: the current,
the previous (for `rollback`, and for services that have not seen the flip yet) and the one being written.
"""

import hashlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator

from redis.exceptions import OutOfMemoryError

from builder.cache import CacheClient, cache_errors
from builder.generations import (
    count_records,
    find_generations,
    flip_pointer,
    read_pointer,
    remove_generation,
)
from builder.lock import HeldLock, hold_lock
from models.errors import AbsorbError, CacheUnavailableError, PublishError, RecordError
from models.record import Generation, Pointer, StateSpec, decode_record

logger = logging.getLogger(__name__)
BATCH_RECORDS = 500
BATCH_BYTES = 8 << 20
SAMPLE_SIZE = 100
Records = Iterable[tuple[str, bytes]]
"""User id and encoded record of each user."""


def publish(
    client: CacheClient,
    generation: Generation,
    records: Records,
    spec: StateSpec,
    *,
    progress: Callable[[int], None] | None = None,
) -> Pointer:
    """Write a generation, verify it and make it the one that serves.

    Args:
        client: from `connect_cache`.
        generation: from `new_generation`; `num_users` is what `records` must come to.
        records: read once, held in memory one batch at a time.
        spec: of the artifact that made the records.
        progress: called after each batch with the number of records in it.

    Raises:
        PublishError: what was written is not what was meant, or does not fit; the old generation still serves.
        LockHeldError: another builder is publishing this model.
        CacheUnavailableError: the cache stopped answering.
    """
    with hold_lock(client, generation.model) as lock:
        old, old_bytes = read_pointer(client, generation.model)
        if not _sweep(client, generation.model, old, lock):
            raise PublishError(f"model {generation.model!r}: lost the lock before writing")
        try:
            sample = _write(client, generation, records, spec, lock, progress)
            _verify(client, generation, sample)
            new = Pointer(generation, old.current if old else None)
        except BaseException:
            _discard(client, generation)
            raise
        _flip(client, old_bytes, new, lock)
        if not _sweep(client, generation.model, new, lock):
            logger.warning("lost the lock after the flip: the next publish removes what is old")
        return new


class _Sample:
    """A uniform sample of a stream of unknown length (reservoir), remembering each record by its hash.

    Not by its CRC: a record ends in its own CRC, and the CRC of such bytes is the same for all.
    """

    def __init__(self, seed: str) -> None:
        self.hashes: list[tuple[str, bytes]] = []
        self._random = random.Random(seed)
        self._seen = 0

    def offer(self, user_id: str, raw: bytes) -> None:
        """See one record of the stream."""
        self._seen += 1
        if len(self.hashes) < SAMPLE_SIZE:
            self.hashes.append((user_id, _hash(raw)))
            return
        place = self._random.randrange(self._seen)
        if place < SAMPLE_SIZE:
            self.hashes[place] = (user_id, _hash(raw))


def _write(
    client: CacheClient,
    generation: Generation,
    records: Records,
    spec: StateSpec,
    lock: HeldLock,
    progress: Callable[[int], None] | None,
) -> _Sample:
    sample = _Sample(generation.name)
    written = 0
    for batch in _batches(_checked(records, generation, spec)):
        if not lock.still_held():
            raise PublishError(
                f"model {generation.model!r}: lost the lock; stopped before flipping"
            )
        _send(client, generation, batch, written)
        for user_id, raw in batch:
            sample.offer(user_id, raw)
        written += len(batch)
        if progress:
            progress(len(batch))
    if not written:
        raise PublishError(f"model {generation.model!r}: there are no records to publish")
    if written != generation.num_users:
        raise PublishError(
            f"model {generation.model!r}: got {written} records, expected {generation.num_users}"
        )
    return sample


def _checked(
    records: Records, generation: Generation, spec: StateSpec
) -> Iterator[tuple[str, bytes]]:
    for user_id, raw in records:
        try:
            decode_record(raw, spec, generation.artifact_id, user_id)
        except RecordError as error:
            raise PublishError(f"user {user_id!r}: {error}") from error
        yield user_id, raw


def _batches(records: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    size = 0
    for user_id, raw in records:
        batch.append((user_id, raw))
        size += len(raw)
        if len(batch) == BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _send(
    client: CacheClient, generation: Generation, batch: list[tuple[str, bytes]], written: int
) -> None:
    with cache_errors(client), client.pipeline(transaction=False) as pipeline:
        for user_id, raw in batch:
            pipeline.set(generation.key(user_id), raw)
        try:
            pipeline.execute()
        except OutOfMemoryError as error:
            raise PublishError(
                f"model {generation.model!r}: the cache is full after {written} of {generation.num_users} records; "
                "raise its maxmemory, or choose a smaller record dtype"
            ) from error


def _verify(client: CacheClient, generation: Generation, sample: _Sample) -> None:
    found = count_records(client, generation)
    if found < generation.num_users:
        raise PublishError(
            f"model {generation.model!r}: wrote {generation.num_users} records, the cache holds {found}: "
            "some were lost or evicted, or a user came twice"
        )
    with cache_errors(client), client.pipeline(transaction=False) as pipeline:
        for user_id, _ in sample.hashes:
            pipeline.get(generation.key(user_id))
        stored = pipeline.execute()
    for (user_id, expected), raw in zip(sample.hashes, stored, strict=True):
        if raw is None or _hash(raw) != expected:
            raise PublishError(
                f"model {generation.model!r}: the record of user {user_id!r} is not what was written"
            )


def _flip(client: CacheClient, old: bytes, new: Pointer, lock: HeldLock) -> None:
    try:
        flip_pointer(client, old, new, lock.token)
    except CacheUnavailableError:
        # Whether it flipped is unknown, so the records stay; if it did not, the next publish sweeps them.
        raise
    except AbsorbError:
        _discard(client, new.current)
        raise


def _sweep(client: CacheClient, model: str, pointer: Pointer | None, lock: HeldLock) -> bool:
    """Remove all generations of a model but the pointer's: old ones, and what killed builders left.

    False, and nothing is removed, if the lock is lost. It is confirmed after the search: then nobody else was writing
    during it, so what it found is dead, and stays so even if this process is stopped for an hour before it removes it.
    """
    kept = (pointer.current, pointer.previous) if pointer else ()
    dead = find_generations(client, model) - {generation.name for generation in kept if generation}
    if not lock.is_confirmed():
        return False
    for name in sorted(dead):
        remove_generation(client, model, name)
        logger.info("model %s: removed old or unfinished generation %s", model, name)
    return True


def _discard(client: CacheClient, generation: Generation) -> None:
    try:
        remove_generation(client, generation.model, generation.name)
    except CacheUnavailableError as error:
        logger.warning("%s stays behind for the next publish to sweep: %s", generation.name, error)


def _hash(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()
