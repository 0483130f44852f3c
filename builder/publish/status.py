"""What the cache holds: models, generations, records, locks."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from statistics import mean

from builder.publish.cache import CacheClient, cache_errors
from builder.publish.generations import count_all, read_pointer
from builder.publish.lock import lock_holder
from models.contract.errors import GenerationError
from models.contract.generation import MODELS_KEY, Pointer, model_names

SAMPLE_KEYS = 100


@dataclass(frozen=True)
class ModelStatus:
    """One model in the cache.

    Attributes:
        model: name that the model is served under.
        pointer: the generation that serves and the one to roll back to; None before the first publish has finished, or
            where the pointer cannot be read.
        problem: why the pointer cannot be read; None if it can.
        records: generation (by `Generation.place`) -> number of records in the cache.
        record_bytes: mean size of up to `SAMPLE_KEYS` records of the current generation; None if it holds no record.
        lock_holder: the builder that is publishing the model now; None if the lock is free.
    """

    model: str
    pointer: Pointer | None
    records: Mapping[str, int]
    record_bytes: int | None
    lock_holder: str | None
    problem: str | None = None

    @property
    def unfinished(self) -> list[str]:
        """Generations that the pointer does not name: being written now, or left by a killed builder."""
        kept = (self.pointer.current, self.pointer.previous) if self.pointer else ()
        named = {generation.place for generation in kept if generation}
        return sorted(self.records.keys() - named)


def status(client: CacheClient) -> list[ModelStatus]:
    """Every model in the cache, by name, also those whose first publish has not finished.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    counts = count_all(client)
    with cache_errors(client):
        published = model_names(client.smembers(MODELS_KEY))
    return [
        _status(client, model, counts.get(model, {})) for model in sorted({*published, *counts})
    ]


def _status(client: CacheClient, model: str, records: Mapping[str, int]) -> ModelStatus:
    pointer, problem = None, None
    try:
        pointer, _ = read_pointer(client, model)
    except GenerationError as error:  # the other models' rows must not be lost
        problem = str(error)
    return ModelStatus(
        model=model,
        pointer=pointer,
        records=dict(records),
        record_bytes=_record_bytes(client, pointer),
        lock_holder=lock_holder(client, model),
        problem=problem,
    )


def _record_bytes(client: CacheClient, pointer: Pointer | None) -> int | None:
    if pointer is None:
        return None
    with cache_errors(client):
        keys = islice(client.scan_iter(pointer.current.key_pattern(), SAMPLE_KEYS), SAMPLE_KEYS)
        sizes = [int(client.strlen(key)) for key in keys]
    return round(mean(sizes)) if sizes else None
