"""Publish a generation: write every record, read back, and only then flip the pointer.

Until the flip nothing that serves is touched, so a builder may die at any moment: the old generation goes on serving,
and the next publish removes what the dead one left. At most three generations lie in the cache at once: the current,
the previous (for `rollback`, and for services that have not seen the flip yet) and the one being written.
"""

import logging

from builder.errors import PublishError
from builder.publish.cache import CacheClient
from builder.publish.generations import (
    find_generations,
    flip_pointer,
    read_pointer,
    remove_generation,
)
from builder.publish.lock import HeldLock, hold_lock
from builder.publish.records import Records, Watcher, verify, write
from models.contract.errors import AbsorbError, CacheUnavailableError
from models.contract.generation import Generation, Pointer
from models.contract.record import StateSpec

logger = logging.getLogger(__name__)


def publish(
    client: CacheClient,
    generation: Generation,
    records: Records,
    spec: StateSpec,
    *,
    progress: Watcher | None = None,
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
        if not sweep(client, generation.model, old, lock):
            raise PublishError(f"model {generation.model!r}: lost the lock before writing")
        try:
            sample = write(client, generation, records, spec, lock, progress)
            verify(client, generation, sample)
            new = Pointer(generation, old.current if old else None)
        except BaseException:
            _discard(client, generation)
            raise
        _flip(client, old_bytes, new, lock)
        if not sweep(client, generation.model, new, lock):
            logger.warning("lost the lock after the flip: the next publish removes what is old")
        return new


def _flip(client: CacheClient, old: bytes, new: Pointer, lock: HeldLock) -> None:
    try:
        flip_pointer(client, old, new, lock.token)
    except CacheUnavailableError:
        # Whether it flipped is unknown, so the records stay; if it did not, the next publish sweeps them.
        raise
    except AbsorbError:
        _discard(client, new.current)
        raise


def sweep(client: CacheClient, model: str, pointer: Pointer | None, lock: HeldLock) -> bool:
    """Remove all generations of a model but the pointer's: old ones, and what killed builders left.

    False, and nothing is removed, if the lock is lost. It is confirmed after the search: then nobody else was writing
    during it, so what it found is dead, and stays so even if this process is stopped for an hour before it removes it.
    """
    kept = (pointer.current, pointer.previous) if pointer else ()
    dead = find_generations(client, model) - {generation.place for generation in kept if generation}
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
