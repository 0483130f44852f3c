"""Write records to the cache, and base histories beside them, in batches; then count them, and read a sample back."""

import hashlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from builder.errors import PublishError
from builder.publish import cache
from builder.publish.cache import CacheClient, cache_address, cache_errors
from builder.publish.checked import Entry
from builder.publish.forgotten import LeftOut, removed_since
from builder.publish.generations import count_records
from builder.publish.lock import HeldLock
from builder.publish.straight import FullError, UnreachableError, UnwantedError
from builder.publish.wire import Servers
from builder.publish.writers import Job, num_writers, written
from models.contract.errors import CacheUnavailableError
from models.contract.generation import Generation
from models.contract.record import record_artifact, record_version
from models.contract.state_spec import StateSpec
from models.live.keys import history_key
from models.live.tombstones import is_forgotten

logger = logging.getLogger(__name__)

BATCH_RECORDS = 500
BATCH_BYTES = 8 << 20
SAMPLE_SIZE = 100
Records = Iterable[tuple[str, bytes]]
"""User id and encoded record of each user; or encoded base history of each user, in the same order."""
Watcher = Callable[[int], None]
"""Called after each batch with its number of records."""


class Sample:
    """A uniform sample of a stream of unknown length (reservoir sampling); keeps the hashes of each entry in it.

    A hash, not a CRC: a record ends with its own CRC, and the CRC of such bytes is the same constant for all records.

    Attributes:
        hashes: user id and hash of each record of the sample.
        left_out: number of records that were not written, because their users are forgotten.
    """

    def __init__(self, seed: str) -> None:
        self.hashes: list[Entry] = []
        self.left_out = 0
        self._random = random.Random(seed)
        self._seen = 0

    def offer(self, user_id: str, raw: bytes, history: bytes | None = None) -> None:
        """Add the next entry of the stream."""
        self._seen += 1
        place = len(self.hashes)
        if place < SAMPLE_SIZE:
            self.hashes.append((user_id, b"", None))
        else:
            place = self._random.randrange(self._seen)
        if place < SAMPLE_SIZE:
            self.hashes[place] = user_id, _hash(raw), None if history is None else _hash(history)


def write(
    client: CacheClient,
    generation: Generation,
    records: Records,
    spec: StateSpec,
    lock: HeldLock,
    progress: Watcher | None,
    histories: Records | None = None,
) -> Sample:
    """Check every record and base history and write them, but for those of forgotten users.

    Tombstones are read again after each batch, and what was written of users that were forgotten meanwhile is removed.

    Raises:
        PublishError: a value is not a record or a base history, their number differs from the generation's, the cache
            is full, or the lock is lost.
        CacheUnavailableError: the cache stopped answering.
    """
    writing = _Writing(client, generation, lock, progress)
    job = Job(Servers.of(client, cache.NUM_RETRIES), generation, spec)
    batches = writing.kept(_batches(_joined(records, histories)))
    with _named_errors(client, writing):
        for batch in written(job, batches, num_writers(generation.num_users), lock.still_held):
            writing.settle(batch)
    writing.require_all()
    return writing.sample


class _Writing:
    """What a publish does before and after a batch is sent: the lock, forgotten users, the sample, the count."""

    def __init__(
        self, client: CacheClient, generation: Generation, lock: HeldLock, progress: Watcher | None
    ) -> None:
        self.generation, self.sample, self.done = generation, Sample(generation.name), 0
        self._client, self._lock, self._progress = client, lock, progress or (lambda _: None)
        self._left_out = LeftOut(client)

    def kept(self, batches: Iterator[list[Entry]]) -> Iterator[list[Entry]]:
        """The batches without forgotten users."""
        for batch in batches:
            self.require_held()
            gone = set(self._left_out.named([user_id for user_id, _, _ in batch]))
            if not gone:
                yield batch
                continue
            _remove(self._client, self.generation, gone)
            self.sample.left_out += len(gone)
            self._progress(len(gone))
            if left := [entry for entry in batch if entry[0] not in gone]:
                yield left

    def settle(self, batch: list[Entry]) -> None:
        """Note a batch that the servers have, but for users who were forgotten meanwhile."""
        since = self._left_out.named_since([user_id for user_id, _, _ in batch])
        _remove(self._client, self.generation, since)
        for entry in batch:
            self.sample.offer(*entry)
        self.done += len(batch)
        self._progress(len(batch))
        self.require_held()

    def require_held(self) -> None:
        """Raise PublishError if the lock is lost."""
        if not self._lock.still_held():
            raise _lost(self.generation)

    def require_all(self) -> None:
        """Raise PublishError unless there was a record for each user of the generation."""
        model, expected = self.generation.model, self.generation.num_users
        if not self.done:
            raise PublishError(f"model {model!r}: there are no records to publish")
        if (got := self.done + self.sample.left_out) != expected:
            raise PublishError(f"model {model!r}: got {got} records, expected {expected}")
        if self.sample.left_out:
            logger.info("model %s: left out %d forgotten users", model, self.sample.left_out)


def _lost(generation: Generation) -> PublishError:
    return PublishError(f"model {generation.model!r}: lost the lock; stopped before flipping")


@contextmanager
def _named_errors(client: CacheClient, writing: _Writing) -> Iterator[None]:
    """Errors of the writers become those of a publish."""
    generation = writing.generation
    try:
        yield
    except UnwantedError as error:
        raise _lost(generation) from error
    except FullError as error:
        raise PublishError(
            f"model {generation.model!r}: the cache is full after {writing.done} of {generation.num_users} records; "
            "raise its maxmemory, or choose a smaller record dtype"
        ) from error
    except UnreachableError as error:
        raise CacheUnavailableError(cache_address(client), str(error)) from error


def _joined(records: Records, histories: Records | None) -> Iterator[Entry]:
    if histories is None:
        for user_id, raw in records:
            yield user_id, raw, None
        return
    left = iter(histories)
    for user_id, raw in records:
        owner, history = next(left, ("", b""))
        if owner != user_id:
            raise PublishError(f"base histories, user: got {owner!r}, expected {user_id!r}")
        yield user_id, raw, history


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for user_id, raw, history in entries:
        batch.append((user_id, raw, history))
        size += len(raw) + len(history or b"")
        if len(batch) == BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _remove(client: CacheClient, generation: Generation, user_ids: Iterable[str]) -> None:
    with cache_errors(client):
        for user_id in user_ids:
            client.unlink(history_key(generation, user_id))
            client.unlink(generation.key(user_id))


def verify(client: CacheClient, generation: Generation, sample: Sample) -> None:
    """Count the records and read the sample back.

    A worker may have folded live events into a record since: that one is of the same artifact, and has a version.

    Raises:
        PublishError: a record or a base history is missing, or differs from what was written.
    """
    num_records = count_records(client, generation) + sample.left_out
    if num_records < generation.num_users - removed_since(client, generation.created_s):
        raise PublishError(
            f"model {generation.model!r}: wrote {generation.num_users} records, the cache holds {num_records}: "
            "some were lost or evicted, or a user came twice"
        )
    with cache_errors(client), client.pipeline(transaction=False) as pipeline:
        for user_id, _, _ in sample.hashes:
            pipeline.get(generation.key(user_id))
            pipeline.get(history_key(generation, user_id))
        stored = pipeline.execute()
    pairs = zip(stored[::2], stored[1::2], strict=True)
    for (user_id, expected, history), (raw, kept) in zip(sample.hashes, pairs, strict=True):
        is_history = history is None or (kept is not None and _hash(kept) == history)
        is_right = is_history and raw is not None and _is_as_written(raw, expected, generation)
        if not is_right and not _is_forgotten(client, user_id):
            what = "record" if is_history else "base history"
            raise PublishError(
                f"model {generation.model!r}: the {what} of user {user_id!r} is not what was written"
            )


def _is_forgotten(client: CacheClient, user_id: str) -> bool:
    with cache_errors(client):
        return is_forgotten(client, user_id)


def _is_as_written(raw: bytes, expected: bytes, generation: Generation) -> bool:
    if _hash(raw) == expected:
        return True
    return record_artifact(raw) == generation.artifact_id and record_version(raw) > 0


def _hash(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()
