"""Rolling publish: overwrite each user's record in place, so that the cache never holds two whole generations.

    1  flip the pointer to the new generation `over` the old one, under the old one's keys
    2  wait until every living service announces that it has loaded both artifacts
    3  overwrite the records, batch by batch; each record names the artifact that made it, and that artifact scores it
    4  remove the users that left the log, verify, fold live events, and flip the pointer to the new generation alone

The builder waits for the services, not for a fixed time: a service that cannot load the new artifact would answer one
user after another from the cold start. If the services are not ready in time, the pointer goes back, and no record has
changed. Each service announces itself at every poll, with a time to live (`heartbeat_key`), so their number need not be
configured. A service that may not write to the cache cannot announce itself, and is not waited for.

If the publish is interrupted after step 2, the cache holds a mixture, which serves: each record is scored by its own
artifact. The next rolling publish completes the mixture, or reverts it if it publishes the old artifact; a mixture may
hold records of three artifacts. Overwritten records are gone, so `rollback` refuses and names the alternative. A
blue/green publish over a mixture works as usual.

A builder that pauses for longer than its lock lives may overwrite the batches of its successor that its writers hold;
those users get the cold start, with a reason, until the next publish.
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
from builder.publish.live_events import CatchUp
from builder.publish.lock import HeldLock, hold_lock
from builder.publish.records import Records, Watcher, verify, write
from builder.publish.services import LOOK_EVERY_S, waited_for
from models.contract.errors import CacheUnavailableError
from models.contract.generation import MAX_OVER, Generation, Overwritten, Pointer
from models.contract.state_spec import StateSpec
from models.live.keys import history_key

logger = logging.getLogger(__name__)


def publish_in_place(
    client: CacheClient,
    generation: Generation,
    records: Records,
    spec: StateSpec,
    *,
    wait_s: float,
    histories: Records | None = None,
    catch_up: CatchUp | None = None,
    progress: Watcher | None = None,
) -> Pointer:
    """Overwrite the generation that serves. A model's first generation is published by `publish`.

    Args:
        client: the cache, from `connect_cache`.
        generation: the new generation, from `new_generation`; its `num_users` must be the number of records.
        records: read once; 8 bytes of each user are kept, to find the users that left the log.
        spec: state spec of the artifact that made the records.
        wait_s: time limit for all services to load both artifacts.
        histories: base history of each user, in the order of the records; None: states cannot follow events.
        catch_up: folds live events into the new records before the last flip; None: states do not follow events.
        progress: called after each batch with its number of records.

    Raises:
        PublishError: services were not ready in time, and nothing has changed; or the written records are wrong or
            incomplete, and a mixture serves until the next publish.
        LockHeldError: another builder is publishing this model.
        CacheUnavailableError: the cache stopped answering; a mixture may serve until the next publish.
    """
    with hold_lock(client, generation.model) as lock:
        old, old_bytes = read_pointer(client, generation.model)
        if old is not None:
            if not sweep(client, generation.model, old, lock):
                raise PublishError(f"model {generation.model!r}: lost the lock before writing")
            mixture = Pointer(_over(generation, old.current), old.current)
            _require_few_artifacts(mixture.current)
            flip_pointer(client, old_bytes, mixture, lock.token)
            _wait_for_services(client, old_bytes, mixture, lock, wait_s)
            left_out = _overwrite(client, mixture.current, records, spec, lock, progress, histories)
            written = mixture.current.num_users - left_out
            new = Pointer(replace(mixture.current, over=(), num_users=written), old.current)
            if catch_up is not None:
                catch_up(new.current, lock.still_held)
            flip_pointer(client, mixture.to_bytes(), new, lock.token)
            if not sweep(client, generation.model, new, lock):
                logger.warning(
                    "lost the lock after the flip; the next publish removes the old generations"
                )
            return new
    return publish(
        client, generation, records, spec, histories=histories, catch_up=catch_up, progress=progress
    )


def _over(new: Generation, old: Generation) -> Generation:
    """The new generation under the keys of the old one, with the other artifacts that its records may come from."""
    mixed = [Overwritten(old.name, old.artifact_id), *old.over]
    known = {new.artifact_id}
    over = []
    for overwritten in mixed:
        if overwritten.artifact_id not in known:
            known.add(overwritten.artifact_id)
            over.append(overwritten)
    return replace(new, slot=old.place, over=tuple(over))


def _require_few_artifacts(mixture: Generation) -> None:
    """Raise PublishError if the services would have to load more artifacts at once than they accept."""
    if len(mixture.over) > MAX_OVER:
        raise PublishError(
            f"model {mixture.model!r}: the records under its keys come from {len(mixture.over)} other artifacts, since "
            f"publishes in place were interrupted; expected at most {MAX_OVER}. Publish once with "
            'publish.mode = "blue_green"'
        )


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
    histories: Records | None,
) -> int:
    """Write the records; return how many were left out, because their users are forgotten."""
    users = _Users()
    try:
        watched = users.watch(records)
        sample = write(client, generation, watched, spec, lock, progress, histories)
        _remove_leavers(client, generation, users.hashes(), lock)
        verify(client, generation, sample)
        return sample.left_out
    except (PublishError, CacheUnavailableError):
        state = "is written in part; each record is scored by the artifact that made it"
        until = "until the next publish completes or reverts it"
        logger.warning("model %s: %s %s, %s", generation.model, generation.name, state, until)
        raise


class _Users:
    """Hashes of the written users, 8 bytes each. Among 100 million users, two collide at odds of 1 to 3,700."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def watch(self, records: Records) -> Iterator[tuple[str, bytes]]:
        """Pass the records on, and keep the hash of each user."""
        for user_id, raw in records:
            self._hashes.append(_hash(user_id.encode()))
            yield user_id, raw

    def hashes(self) -> NDArray[np.uint64]:
        """The hashes, sorted."""
        return np.sort(np.frombuffer(self._hashes, np.uint64))


def _remove_leavers(
    client: CacheClient, generation: Generation, written: NDArray[np.uint64], lock: HeldLock
) -> None:
    """Remove the records and base histories of users that were not written."""
    start, removed = len(generation.key("").encode()), 0
    with cache_errors(client):
        keys = client.scan_iter(generation.key_pattern(), SCAN_COUNT)
        while batch := list(islice(keys, UNLINK_BATCH)):
            found = np.array([_hash(key[start:]) for key in batch], np.uint64)
            places = np.searchsorted(written, found).clip(max=len(written) - 1)
            leavers = [key for key, at in zip(batch, written[places] != found, strict=True) if at]
            if leavers and not lock.is_confirmed():  # they may be users of another builder
                raise PublishError(f"model {generation.model!r}: lost the lock; stopped")
            with client.pipeline(transaction=False) as pipeline:
                for key in leavers:
                    pipeline.unlink(history_key(generation, key[start:].decode()))
                    pipeline.unlink(key)
                pipeline.execute()
            removed += len(leavers)
    if removed:
        logger.info("model %s: removed %d users that left the log", generation.model, removed)


def _hash(user_id: bytes) -> int:
    return int.from_bytes(blake2b(user_id, digest_size=8).digest(), "little")
