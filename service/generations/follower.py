"""Follows the generation pointers: loads a newly published generation, warms it up, and swaps it in."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from models.contract.errors import (
    AbsorbError,
    CorruptRecordError,
    GenerationError,
    UnknownModelError,
)
from models.contract.generation import Generation, Pointer, pointer_key, read_default_name
from service.errors import NotReadyError
from service.generations.heartbeat import Heartbeat
from service.generations.new_items import NewItemRegistry
from service.generations.selection import Selection
from service.generations.serving import Loader, Serving
from service.observability.metrics import Telemetry
from service.store.redis import StateStore

MAX_POLLS_BETWEEN_TRIES = 32

log = logging.getLogger(__name__)


@dataclass
class _Retry:
    """A pointer whose generation does not load. It is tried again after 1, 2, 4, … polls."""

    raw: bytes | None
    message: str
    tries: int = 0
    polls_to_wait: int = 0


class Follower:
    """Polls the pointers and keeps `Selection` up to date.

    Three failures leave the serving generation in place: a generation that does not load, a pointer that cannot be
    read, and a model that disappears from the cache. A cache that lost its memory must not stop the service.

    Attributes:
        heartbeat: announces what is loaded.
    """

    def __init__(
        self,
        store: StateStore,
        selection: Selection,
        heartbeat: Heartbeat,
        loader: Loader,
        telemetry: Telemetry,
        on_swap: Callable[[Serving | None, Serving | None], None],
        warm_up: Callable[[Serving], Awaitable[None]],
        new_items: NewItemRegistry,
    ) -> None:
        """Serve nothing until the first poll.

        Args:
            store: the cache, which holds the pointers.
            selection: what serves now.
            heartbeat: announces what is loaded.
            loader: loads a generation.
            telemetry: counts swaps and failures.
            on_swap: called with what served a model before and what serves it now; None for nothing.
            warm_up: scores with a generation before it serves; an error that it raises keeps it from serving.
            new_items: read at each poll, and told to a generation before it serves.
        """
        self._store = store
        self._selection = selection
        self.heartbeat = heartbeat
        self._loader = loader
        self._telemetry = telemetry
        self._on_swap = on_swap
        self._warm_up = warm_up
        self._new_items = new_items
        self._retries: dict[str, _Retry] = {}
        self._polling = asyncio.Lock()

    async def run(self, interval_s: float) -> None:
        """Poll until cancelled. Errors are logged, and the next poll tries again."""
        while True:
            try:
                await self.poll()
            except Exception:  # outermost handler: the task must not end while the service runs
                self._telemetry.poll_failures.inc()
                log.exception("poll failed")
            await asyncio.sleep(interval_s)

    async def poll(self) -> None:
        """Read every pointer once; load and swap in what has changed."""
        async with self._polling:
            await self._poll()

    async def load(self, model: str) -> None:
        """Read one pointer now and swap in its generation, even if the model was unloaded.

        Raises:
            UnknownModelError: no such model is published.
            NotReadyError: its generation does not load; what served before, if anything did, still does.
            CacheUnavailableError: the cache does not answer.
        """
        async with self._polling:
            pointers = await self._store.read_pointers()
            if model not in pointers:
                raise UnknownModelError(model, pointers)
            self._selection.allow(model)
            self._recover(model)
            pointers = await self._read_pointers()
            await self._follow(model, pointers.get(model))
        if (error := self._selection.failure(model)) is not None:
            raise NotReadyError(f"model {model!r} does not load: {error}")

    async def unload(self, model: str, why: str) -> None:
        """Stop serving a model until `load` or a restart; requests in flight still finish.

        Args:
            model: name of the model.
            why: when and by whom.

        Raises:
            UnknownModelError: the model neither serves nor is waiting to.
        """
        async with self._polling:
            old = self._selection.unload(model, why)
            self._retries.pop(model, None)
        if old is not None:
            self._stopped(old, why)

    def _make_room(self, generation: Generation) -> None:
        """Unload models that are not published any more, as far as the new generation needs their room."""
        loaded = {model: kept.generation for model, kept in self._selection.serving.items()}
        published = self._selection.published
        for model in self._loader.room.models_to_evict(generation, loaded, published):
            self._stopped(self._selection.forget(model), "not published any more")

    def _stopped(self, old: Serving, reason: str) -> None:
        self._on_swap(old, None)
        self._telemetry.unloaded(old.generation)
        model, name = old.generation.model, old.generation.name
        fields = {"model": model, "generation": name, "reason": reason}
        log.warning("model unloaded", extra=fields)

    async def _poll(self) -> None:
        try:
            pointers = await self._read_pointers()
        except AbsorbError as error:
            self._telemetry.poll_failures.inc()
            if self._selection.cache_error != str(error):
                log.warning("generation pointers cannot be read", extra={"error": str(error)})
            self._selection.cache_error = str(error)
            return
        if self._selection.cache_error is not None:
            log.info("generation pointers can be read again")
            self._selection.cache_error = None
        for model, raw in pointers.items():
            if not self._selection.is_unloaded(model):
                await self._follow(model, raw)
        await self._new_items.refresh()
        await self.heartbeat.announce()

    async def _read_pointers(self) -> dict[str, bytes | None]:
        """Read every pointer after this service has announced that it serves, or will serve, that model.

        A rolling publish then either waits for this service, or has moved the pointer before it is read here.
        """
        pointers = await self._store.read_pointers()
        self._selection.note_published(pointers, await self._read_default())
        self.heartbeat.note_published(pointers)
        if self.heartbeat.is_incomplete:
            await self.heartbeat.announce()
            pointers = await self._store.read_pointers()
        return pointers

    async def _read_default(self) -> str | None:
        try:
            return read_default_name(await self._store.read_default())
        except CorruptRecordError:  # not a string: the default stays what it was
            return None

    async def _follow(self, model: str, raw: bytes | None) -> None:
        retry = self._retries.get(model)
        if retry is not None and retry.raw == raw and retry.polls_to_wait > 0:
            retry.polls_to_wait -= 1
            return
        try:
            await self._swap(model, raw)
            self._recover(model)
        except Exception as error:  # outermost handler of one model: the others must follow on
            self._fail(model, raw, error)

    async def _swap(self, model: str, raw: bytes | None) -> None:
        key = pointer_key(model)
        if raw is None:
            raise GenerationError(
                key,
                "the key is missing, empty or no string, though the model is listed as published",
            )
        generation = Pointer.from_bytes(raw, key).current
        if generation.model != model:
            raise GenerationError(key, f"it points at model {generation.model!r}")
        old = self._selection.current(model)
        if old is not None and old.generation == generation:
            return
        self._make_room(generation)
        new = await self._loader.load(generation, old)
        await self._new_items.tell(new)
        if old is None or old.scorer is not new.scorer:
            await self._warm_up(new)
        self._selection.serve(model, new)
        self._on_swap(old, new)
        self._telemetry.swapped(old.generation if old else None, generation)
        fields = {
            "model": model,
            "generation": generation.name,
            "artifact_id": generation.artifact_id,
            "previous": old and old.generation.name,
            "users": generation.num_users,
            "engine": new.scorer.choice.engine.name,
            "device": new.scorer.device,
            "engine_reason": new.scorer.choice.reason,
        }
        log.info("generation serves", extra=fields)

    def _fail(self, model: str, raw: bytes | None, error: Exception) -> None:
        self._telemetry.load_failed(model, error)
        is_foreseen = isinstance(error, AbsorbError)
        text = str(error) if is_foreseen else f"{type(error).__name__}: {error}"
        retry = self._retries.get(model)
        if retry is None or (retry.raw, retry.message) != (raw, text):
            serving = self._selection.current(model)
            fields = {
                "model": model,
                "error": text,
                "keeps": serving and serving.generation.name,
            }
            trace = None if is_foreseen else error
            log.error("generation does not load", extra=fields, exc_info=trace)
            retry = self._retries[model] = _Retry(raw, text)
            self._selection.fail(model, text)
        retry.tries += 1
        retry.polls_to_wait = min(2 ** (retry.tries - 1), MAX_POLLS_BETWEEN_TRIES) - 1

    def _recover(self, model: str) -> None:
        self._selection.recover(model)
        self._retries.pop(model, None)

    def close(self) -> None:
        """Stop the loader's thread."""
        self._loader.close()
