"""Blue/green publish: write every record of a new generation, verify them, and only then flip the pointer.

Until the flip, nothing that serves changes. A builder may die at any moment: the old generation goes on serving, and
the next publish removes what the dead builder left. The cache holds at most three generations: the current one, the
previous one (for `rollback`, and for services that have not seen the flip yet), and the one being written.
"""

import logging
from contextlib import nullcontext
from dataclasses import replace

from builder.errors import PublishError
from builder.publish.cache import CacheClient
from builder.publish.generations import (
    find_generations,
    flip_pointer,
    read_pointer,
    remove_generation,
)
from builder.publish.live_events import CatchUp, announced
from builder.publish.lock import HeldLock, hold_lock
from builder.publish.records import Records, Watcher, verify, write
from models.contract.errors import AbsorbError, CacheUnavailableError
from models.contract.generation import Generation, Pointer
from models.contract.state_spec import StateSpec

logger = logging.getLogger(__name__)


def publish(
    client: CacheClient,
    generation: Generation,
    records: Records,
    spec: StateSpec,
    *,
    histories: Records | None = None,
    catch_up: CatchUp | None = None,
    progress: Watcher | None = None,
) -> Pointer:
    """Write a generation, verify it, and make it serve.

    Args:
        client: the cache, from `connect_cache`.
        generation: the new generation, from `new_generation`; its `num_users` must be the number of records.
        records: read once; one batch is in memory, or a few for each writer (`writers.py`).
        spec: state spec of the artifact that made the records.
        histories: base history of each user, in the order of the records; None: states cannot follow events.
        catch_up: folds live events into the new generation before the flip; None: states do not follow events.
        progress: called after each batch with its number of records.

    Raises:
        PublishError: a record is wrong, missing, or does not fit into the cache; the old generation still serves.
        LockHeldError: another builder is publishing this model.
        CacheUnavailableError: the cache stopped answering.
    """
    with hold_lock(client, generation.model) as lock:
        old, old_bytes = read_pointer(client, generation.model)
        if not sweep(client, generation.model, old, lock):
            raise PublishError(f"model {generation.model!r}: lost the lock before writing")
        with announced(client, generation) if catch_up is not None else nullcontext():
            try:
                sample = write(client, generation, records, spec, lock, progress, histories)
                verify(client, generation, sample)
                if catch_up is not None:
                    catch_up(generation, lock.still_held)
                generation = replace(generation, num_users=generation.num_users - sample.left_out)
                new = Pointer(generation, old.current if old else None)
            except BaseException:
                _discard(client, generation)
                raise
            _flip(client, old_bytes, new, lock)
        if not sweep(client, generation.model, new, lock):
            logger.warning(
                "lost the lock after the flip; the next publish removes the old generations"
            )
        return new


def _flip(client: CacheClient, old: bytes, new: Pointer, lock: HeldLock) -> None:
    try:
        flip_pointer(client, old, new, lock.token)
    except CacheUnavailableError:
        # It is unknown whether the flip happened, so the records stay. If not, the next publish removes them.
        raise
    except AbsorbError:
        _discard(client, new.current)
        raise


def sweep(client: CacheClient, model: str, pointer: Pointer | None, lock: HeldLock) -> bool:
    """Remove every generation of a model that the pointer does not name: old ones, and those of killed builders.

    Returns False, and removes nothing, if the lock is lost. The lock is confirmed after the search: no other builder
    was writing during it, so every generation found is dead, even if this process pauses before it removes them.
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
        logger.warning(
            "%s is not removed now; the next publish removes it: %s", generation.name, error
        )
