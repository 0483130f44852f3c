"""Publish in place: every user's record is written over the one that serves, so the cache never holds two builds.

    1  flip the pointer to the new generation `over` the old one, under the old one's keys
    2  wait until every living service says that it has loaded both artifacts
    3  write over the users, one batch after another; each record names the artifact that made it, which scores it
    4  remove the users that the log no longer has, verify, and flip the pointer to the new generation alone

Services are waited for rather than a time: a service that could not load the new artifact would lose one user after
another to the cold start, and a time would not notice. Should they not be ready in time, the pointer goes back and not
one record has changed. They say so themselves (`presence_key`), at each poll, with a time to live: nobody has to be
told how many there are. A service that may not write to the cache is not waited for.

Interrupted after step 2, the cache holds a mixture, which serves: each record by its own artifact. The next publish in
place completes it, or with the old artifact reverts it; a mixture of three is one as well. There is no way back but
that: what is overwritten is gone, so `rollback` refuses, and says what to do. A blue/green publish over a mixture works
as ever.

A builder that was stopped for longer than its lock lives may write one more batch over its successor's; those users get
the cold start, and a reason, until the next publish.
"""

import logging
import time
from array import array
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from builder.errors import PublishError
from builder.publish.blue_green import publish, sweep
from builder.publish.cache import CacheClient, cache_errors
from builder.publish.generations import SCAN_COUNT, UNLINK_BATCH, flip_pointer, read_pointer
from builder.publish.lock import HeldLock, hold_lock
from builder.publish.records import Records, Watcher, verify, write
from builder.publish.services import waited_for
from models.contract.errors import CacheUnavailableError
from models.contract.generation import Generation, Overwritten, Pointer
from models.contract.record import StateSpec

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 0.2


def publish_in_place(
    client: CacheClient,
    generation: Generation,
    records: Records,
    spec: StateSpec,
    *,
    wait_s: float,
    progress: Watcher | None = None,
) -> Pointer:
    """Write a generation over the one that serves. The first of a model has nothing to overwrite: as `publish`.

    Args:
        client: from `connect_cache`.
        generation: from `new_generation`; `num_users` is what `records` must come to.
        records: read once; of each user 8 bytes are kept, to know who has left.
        spec: of the artifact that made the records.
        wait_s: seconds in which all services have to load both artifacts.
        progress: called after each batch with the number of records in it.

    Raises:
        PublishError: services were not ready in time, and nothing has changed; or what was written is not what was
            meant, and a mixture serves until the next publish.
        LockHeldError: another builder is publishing this model.
        CacheUnavailableError: the cache stopped answering; a mixture may serve until the next publish.
    """
    with hold_lock(client, generation.model) as lock:
        old, old_bytes = read_pointer(client, generation.model)
        if old is not None:
            if not sweep(client, generation.model, old, lock):
                raise PublishError(f"model {generation.model!r}: lost the lock before writing")
            mixture = Pointer(_over(generation, old.current), old.current)
            flip_pointer(client, old_bytes, mixture, lock.token)
            _wait_for_services(client, old_bytes, mixture, lock, wait_s)
            _overwrite(client, mixture.current, records, spec, lock, progress)
            new = Pointer(replace(mixture.current, over=()), old.current)
            flip_pointer(client, mixture.to_bytes(), new, lock.token)
            if not sweep(client, generation.model, new, lock):
                logger.warning("lost the lock after the flip: the next publish removes what is old")
            return new
    return publish(client, generation, records, spec, progress=progress)


def _over(new: Generation, old: Generation) -> Generation:
    """`new` under the keys of `old`. Records of its own artifact need no other to be scored."""
    mixed = [Overwritten(old.name, old.artifact_id), *old.over]
    known = {new.artifact_id}
    over = []
    for one in mixed:
        if one.artifact_id not in known:
            known.add(one.artifact_id)
            over.append(one)
    return replace(new, slot=old.place, over=tuple(over))


def _wait_for_services(
    client: CacheClient, old: bytes, mixture: Pointer, lock: HeldLock, limit_s: float
) -> None:
    model, name = mixture.current.model, mixture.current.name
    deadline_s = time.monotonic() + limit_s
    while waiting := waited_for(client, model, name):
        if time.monotonic() > deadline_s:
            before = Pointer.from_bytes(old, model)
            flip_pointer(client, mixture.to_bytes(), before, lock.token)
            raise PublishError(
                f"model {model!r}: after {limit_s:.0f} s these services had not loaded artifact "
                f"{mixture.current.artifact_id}: {', '.join(waiting)}; nothing is overwritten. See their logs"
            )
        time.sleep(LOOK_EVERY_S)


def _overwrite(
    client: CacheClient,
    generation: Generation,
    records: Records,
    spec: StateSpec,
    lock: HeldLock,
    progress: Watcher | None,
) -> None:
    users = _Users()
    try:
        sample = write(client, generation, users.watch(records), spec, lock, progress)
        _remove_leavers(client, generation, users.hashes(), lock)
        verify(client, generation, sample)
    except (PublishError, CacheUnavailableError):
        logger.warning(
            "model %s: %s is written in part; each record is scored by the artifact that made it, "
            "until the next publish completes or reverts it", generation.model, generation.name,
        )  # fmt: skip
        raise


class _Users:
    """Who was written, 8 bytes each. Among 100 million, two share them at odds of 1 to 3,700, and one may stay."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def watch(self, records: Records) -> Iterator[tuple[str, bytes]]:
        """The records, each user remembered."""
        for user_id, raw in records:
            self._hashes.append(_hash(user_id.encode()))
            yield user_id, raw

    def hashes(self) -> NDArray[np.uint64]:
        """Sorted."""
        return np.sort(np.frombuffer(self._hashes, np.uint64))


def _remove_leavers(
    client: CacheClient, generation: Generation, written: NDArray[np.uint64], lock: HeldLock
) -> None:
    """Remove records of users who are not among those written."""
    start, removed = len(generation.key("").encode()), 0
    with cache_errors(client):
        keys = client.scan_iter(generation.key_pattern(), SCAN_COUNT)
        while batch := list(islice(keys, UNLINK_BATCH)):
            found = np.array([_hash(key[start:]) for key in batch], np.uint64)
            places = np.searchsorted(written, found).clip(max=len(written) - 1)
            leavers = [key for key, at in zip(batch, written[places] != found, strict=True) if at]
            if leavers and not lock.is_confirmed():  # they may be another builder's new users
                raise PublishError(f"model {generation.model!r}: lost the lock; stopped")
            with client.pipeline(transaction=False) as pipeline:
                for key in leavers:
                    pipeline.unlink(key)
                pipeline.execute()
            removed += len(leavers)
    if removed:
        logger.info("model %s: removed %d users that left the log", generation.model, removed)


def _hash(user_id: bytes) -> int:
    return int.from_bytes(blake2b(user_id, digest_size=8).digest(), "little")
