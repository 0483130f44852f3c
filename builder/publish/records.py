"""Write records to the cache: check each, send them in batches, read a sample back."""

import hashlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator

from redis.exceptions import OutOfMemoryError

from builder.errors import PublishError
from builder.publish.cache import CacheClient, cache_errors
from builder.publish.forgotten import LeftOut, removed_since
from builder.publish.generations import count_records
from builder.publish.lock import HeldLock
from models.contract.errors import RecordError
from models.contract.generation import Generation
from models.contract.record import decode_record
from models.contract.state_spec import StateSpec
from models.live.tombstones import is_forgotten

logger = logging.getLogger(__name__)

BATCH_RECORDS = 500
BATCH_BYTES = 8 << 20
SAMPLE_SIZE = 100
Records = Iterable[tuple[str, bytes]]
"""User id and encoded record of each user."""
Watcher = Callable[[int], None]
"""Called after each batch with its number of records."""


class Sample:
    """A uniform sample of a stream of unknown length (reservoir sampling); keeps the hash of each record in it.

    A hash, not a CRC: a record ends with its own CRC, and the CRC of such bytes is the same constant for all records.

    Attributes:
        hashes: user id and hash of each record of the sample.
        left_out: number of records that were not written, because their users are forgotten.
    """

    def __init__(self, seed: str) -> None:
        self.hashes: list[tuple[str, bytes]] = []
        self.left_out = 0
        self._random = random.Random(seed)
        self._seen = 0

    def offer(self, user_id: str, raw: bytes) -> None:
        """Add the next record of the stream."""
        self._seen += 1
        if len(self.hashes) < SAMPLE_SIZE:
            self.hashes.append((user_id, _hash(raw)))
            return
        place = self._random.randrange(self._seen)
        if place < SAMPLE_SIZE:
            self.hashes[place] = (user_id, _hash(raw))


def write(
    client: CacheClient,
    generation: Generation,
    records: Records,
    spec: StateSpec,
    lock: HeldLock,
    progress: Watcher | None,
) -> Sample:
    """Check every record and write it, but for those of forgotten users.

    Tombstones are read again after each batch, and what was written of users that were forgotten meanwhile is removed.

    Raises:
        PublishError: a value is not a record, their number differs from the generation's, the cache is full, or the
            lock is lost.
        CacheUnavailableError: the cache stopped answering.
    """
    sample, left_out = Sample(generation.name), LeftOut(client)
    written = 0
    for batch in _batches(_checked(records, generation, spec)):
        if not lock.still_held():
            raise PublishError(
                f"model {generation.model!r}: lost the lock; stopped before flipping"
            )
        gone = left_out.named(batch)
        kept = [record for record in batch if record[0] not in gone]
        _send(client, generation, kept, written)
        _remove(client, generation, [*gone, *left_out.named_since(kept)])
        for user_id, raw in kept:
            sample.offer(user_id, raw)
        written += len(kept)
        sample.left_out += len(batch) - len(kept)
        if progress:
            progress(len(batch))
    if not written:
        raise PublishError(f"model {generation.model!r}: there are no records to publish")
    if written + sample.left_out != generation.num_users:
        raise PublishError(
            f"model {generation.model!r}: got {written + sample.left_out} records, expected {generation.num_users}"
        )
    if sample.left_out:
        logger.info("model %s: left out %d forgotten users", generation.model, sample.left_out)
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


def _remove(client: CacheClient, generation: Generation, user_ids: Iterable[str]) -> None:
    with cache_errors(client):
        for user_id in user_ids:
            client.unlink(generation.key(user_id))


def verify(client: CacheClient, generation: Generation, sample: Sample) -> None:
    """Count the records and read the sample back.

    Raises:
        PublishError: a record is missing, or differs from what was written.
    """
    num_records = count_records(client, generation) + sample.left_out
    if num_records < generation.num_users - removed_since(client, generation.created_s):
        raise PublishError(
            f"model {generation.model!r}: wrote {generation.num_users} records, the cache holds {num_records}: "
            "some were lost or evicted, or a user came twice"
        )
    with cache_errors(client), client.pipeline(transaction=False) as pipeline:
        for user_id, _ in sample.hashes:
            pipeline.get(generation.key(user_id))
        stored = pipeline.execute()
    for (user_id, expected), raw in zip(sample.hashes, stored, strict=True):
        if (raw is None or _hash(raw) != expected) and not _is_forgotten(client, user_id):
            raise PublishError(
                f"model {generation.model!r}: the record of user {user_id!r} is not what was written"
            )


def _is_forgotten(client: CacheClient, user_id: str) -> bool:
    with cache_errors(client):
        return is_forgotten(client, user_id)


def _hash(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()
