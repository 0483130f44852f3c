"""Follows the generation pointers: loads what they name off the hot path, then swaps it in as one object."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from models.contract.artifact import Artifact, load_artifact
from models.contract.errors import AbsorbError, ArtifactError, GenerationError, UnknownModelError
from models.contract.record import Generation, Pointer, pointer_key, record_artifact
from service.errors import NotReadyError
from service.observability.metrics import Telemetry
from service.runtime.scorer import Scorer
from service.store.redis import StateStore

FIRST_CHOICE = "lrea"
"""Model of requests that name none, if the settings name none either and it is published."""
MAX_POLLS_BETWEEN_TRIES = 32
PRESENT_S = 30
"""Seconds for which a service counts as alive after it said so: so long does a publish in place wait for a dead one."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Serving:
    """What one request is answered from: key prefix, artifact and scorer of one generation, never mixed.

    Two of them are never equal, even of one generation: what is kept for one is not taken for the other.

    Attributes:
        older: artifact id -> what scores the records that this generation has yet to overwrite in place.
    """

    generation: Generation
    artifact: Artifact
    scorer: Scorer
    older: Mapping[str, "Serving"] = field(default_factory=dict)

    def maker_of(self, raw: bytes) -> "Serving":
        """What made a record and alone may score it; this one for all that none has made."""
        return self.older.get(record_artifact(raw) or "", self) if self.older else self


@dataclass
class _Failure:
    """A pointer whose generation does not load: tried again after 1, 2, 4, … polls."""

    raw: bytes | None
    error: Exception
    tries: int = 0
    polls_to_wait: int = 0


def load_serving(
    artifact_dir: Path, generation: Generation, num_threads: int, old: Serving | None
) -> Serving:
    """Verify, load and warm what a generation needs. What `old` has loaded is kept, not loaded again.

    An artifact whose records are being overwritten may be gone; those users get the cold start until they are.

    Raises:
        ArtifactError: the generation's artifact is missing, tampered with, or cannot score.
    """
    loaded = {one.generation.artifact_id: one for one in (old, *old.older.values())} if old else {}
    older = {}
    for over in generation.over:
        name, artifact_id = over.name, over.artifact_id
        made = replace(generation, name=name, artifact_id=artifact_id, slot=generation.place)
        try:
            older[artifact_id] = _load(artifact_dir, made, num_threads, loaded)
        except ArtifactError as error:
            log.warning("records being overwritten cannot score", extra={"error": str(error)})
    return replace(_load(artifact_dir, generation, num_threads, loaded), older=older)


def _load(
    artifact_dir: Path, generation: Generation, num_threads: int, loaded: Mapping[str, Serving]
) -> Serving:
    if same := loaded.get(generation.artifact_id):
        return Serving(generation, same.artifact, same.scorer)
    artifact = load_artifact(artifact_dir, generation.artifact_id)
    try:
        artifact.vocabulary.check(artifact.manifest.schema)
    except ValueError as error:
        raise ArtifactError(f"artifact: {artifact.path}: {error}") from error
    return Serving(generation, artifact, Scorer(artifact, num_threads))


class Follower:
    """Keeps one `Serving` for every published model.

    A generation that does not load, a pointer that cannot be read and a model that vanishes from the cache all leave
    what serves in its place: a cache that lost its memory must not take the service down as well.

    Attributes:
        on_swap: told what served a model before, and what serves it from now on; None for nothing.
        warm_up: scores with what is about to serve; what it raises keeps that from serving.
    """

    def __init__(
        self,
        store: StateStore,
        telemetry: Telemetry,
        artifact_dir: Path,
        num_threads: int,
        default_model: str | None,
    ) -> None:
        self._store = store
        self._telemetry = telemetry
        self._artifact_dir = artifact_dir
        self._num_threads = num_threads
        self._default_model = default_model
        self._serving: dict[str, Serving] = {}
        self._failures: dict[str, _Failure] = {}
        self._unloaded: set[str] = set()
        self._looking = asyncio.Lock()
        self._cache_error: str | None = None
        self.on_swap: Callable[[Serving | None, Serving | None], None] = _tell_nobody
        self.warm_up: Callable[[Serving], Awaitable[None]] = _warm_nothing_up
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._published: set[str] = set()
        self._announced: set[str] = set()
        self._announcing = asyncio.Lock()
        self._is_mute = False
        # A thread of its own: loading never takes one that scores.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")

    @property
    def serving(self) -> dict[str, Serving]:
        """Model -> what serves it now, by name."""
        return dict(sorted(self._serving.items()))

    @property
    def default_model(self) -> str | None:
        """Model of requests that name none; None while there is none."""
        if self._default_model is not None:
            return self._default_model
        return FIRST_CHOICE if FIRST_CHOICE in self._serving else min(self._serving, default=None)

    @property
    def problems(self) -> dict[str, str]:
        """Model -> why it does not serve, or why what is published now is not what serves."""
        unloaded = {name: _unloaded(name) for name in self._unloaded}
        return {name: str(one.error) for name, one in self._failures.items()} | unloaded

    def pick(self, model: str | None) -> Serving:
        """What serves `model` now; callers keep it for the whole of a request.

        Raises:
            UnknownModelError: no such model is published.
            NotReadyError: nothing is loaded yet, or not the default model, or the model failed to load.
        """
        name = self.default_model if model is None else model
        if name is not None and name in self._serving:
            return self._serving[name]
        if name in self._unloaded:
            raise NotReadyError(f"not ready: {_unloaded(name)}")
        if not self._serving or model is None or model in self._failures:
            raise NotReadyError(f"not ready: {self._why(name)}")
        raise UnknownModelError(model, self._serving)

    def pick_to_probe(self) -> Serving:
        """The default model, or any that serves once the settings' default was told to unload.

        Raises:
            NotReadyError: nothing serves, or the default model does not yet.
        """
        if self._serving and self._default_model in self._unloaded:
            return next(iter(self.serving.values()))
        return self.pick(None)

    def pick_several(self, models: Sequence[str] | None) -> dict[str, Serving | NotReadyError]:
        """What serves each of `models` now, or why nothing does; None picks all that serve.

        Raises:
            UnknownModelError: one of them is not published.
            NotReadyError: None, and nothing is loaded yet.
        """
        if models is None and not self._serving:
            raise NotReadyError(f"not ready: {self._why(self.default_model)}")
        names = self.serving if models is None else models
        return {name: self._try_pick(name) for name in names}

    def _try_pick(self, model: str) -> Serving | NotReadyError:
        try:
            return self.pick(model)
        except NotReadyError as error:
            return error

    def _why(self, name: str | None) -> str:
        failure = self._failures.get(name) if name else next(iter(self._failures.values()), None)
        if failure is not None:
            return str(failure.error)
        return self._cache_error or f"no generation of {name or 'any model'} is published yet"

    async def run(self, interval_s: float) -> None:
        """Poll for ever. Whatever goes wrong is logged and tried again."""
        while True:
            try:
                await self.poll()
            except (
                Exception
            ):  # the outermost handler of this task: its death would freeze the generation
                self._telemetry.poll_failures.inc()
                log.exception("poll failed")
            await asyncio.sleep(interval_s)

    async def stay_present(self) -> None:
        """Say for ever what is loaded, however long a load takes: who is silent for long is taken for dead."""
        while True:
            await asyncio.sleep(PRESENT_S / 3)
            try:
                await self._announce()
            except Exception:  # as of `run`
                log.exception("saying what is loaded failed")

    async def poll(self) -> None:
        """Look at every pointer once; load and swap what has changed."""
        async with self._looking:
            await self._poll()

    async def load(self, model: str) -> None:
        """Look at one pointer now, and swap in what it names; also a model that was unloaded.

        Raises:
            UnknownModelError: no such model is published.
            NotReadyError: its generation does not load; what served before, if anything did, still does.
            CacheUnavailableError: the cache does not answer.
        """
        async with self._looking:
            pointers = await self._store.read_pointers()
            if model not in pointers:
                raise UnknownModelError(model, pointers)
            self._unloaded.discard(model)
            self._failures.pop(model, None)
            pointers = await self._read_pointers()
            await self._follow(model, pointers.get(model))
        if model in self._failures:
            raise NotReadyError(f"model {model!r} does not load: {self._failures[model].error}")

    async def unload(self, model: str) -> None:
        """Stop serving a model and let go of it, until `load` or a restart; requests in flight still finish.

        Raises:
            UnknownModelError: no such model serves, or should.
        """
        async with self._looking:
            known = {*self._serving, *self._failures, *self._unloaded}
            if model not in known:
                raise UnknownModelError(model, known)
            self._unloaded.add(model)
            self._failures.pop(model, None)
            old = self._serving.pop(model, None)
        if old is not None:
            self.on_swap(old, None)
            self._telemetry.unloaded(old.generation)
            log.info("model unloaded", extra={"model": model, "generation": old.generation.name})

    async def _poll(self) -> None:
        try:
            pointers = await self._read_pointers()
        except AbsorbError as error:
            self._telemetry.poll_failures.inc()
            if self._cache_error != str(error):
                log.warning("generation pointers cannot be read", extra={"error": str(error)})
            self._cache_error = str(error)
            return
        if self._cache_error is not None:
            log.info("generation pointers can be read again")
            self._cache_error = None
        for model, raw in pointers.items():
            if model not in self._unloaded:
                await self._follow(model, raw)
        await self._announce()

    async def _read_pointers(self) -> dict[str, bytes | None]:
        """Every pointer, as it is after this service has said that it serves that model, or will.

        So a publish in place either waits for this service, or has moved the pointer before it is read.
        """
        pointers = await self._store.read_pointers()
        self._published = set(pointers)
        if self._published - self._unloaded - self._announced:
            await self._announce()
            pointers = await self._store.read_pointers()
        return pointers

    async def _announce(self) -> None:
        """Say what is loaded: a publish in place waits for it."""
        async with self._announcing:  # what is said last is the latest
            loaded = {
                model: self._serving[model].generation.name if model in self._serving else None
                for model in self._published - self._unloaded
            }
            try:
                await self._store.announce(self._name, orjson.dumps(loaded), PRESENT_S)
            except AbsorbError as error:  # it may have no right to write, and needs none to serve
                if not self._is_mute:
                    log.warning("cannot say what is loaded", extra={"error": str(error)})
                self._is_mute = True
                return
            self._is_mute = False
            self._announced = set(loaded)

    async def _follow(self, model: str, raw: bytes | None) -> None:
        failure = self._failures.get(model)
        if failure is not None and failure.raw == raw and failure.polls_to_wait > 0:
            failure.polls_to_wait -= 1
            return
        try:
            await self._swap(model, raw)
            self._failures.pop(model, None)
        except (AbsorbError, TypeError, ValueError) as error:
            # Beside our own: a file whose hash is right, and whose content is not what it should be.
            self._fail(model, raw, error)

    async def _swap(self, model: str, raw: bytes | None) -> None:
        key = pointer_key(model)
        if raw is None:
            raise GenerationError(key, "it is gone, though the model is listed as published")
        new = Pointer.from_bytes(raw, key).current
        if new.model != model:
            raise GenerationError(key, f"it points at model {new.model!r}")
        old = self._serving.get(model)
        if old is not None and old.generation == new:
            return
        loaded = await asyncio.get_running_loop().run_in_executor(
            self._loader, load_serving, self._artifact_dir, new, self._num_threads, old
        )
        if old is None or old.scorer is not loaded.scorer:
            await self.warm_up(loaded)
        self._serving[model] = loaded
        self.on_swap(old, loaded)
        self._telemetry.swapped(old.generation if old else None, new)
        fields = {
            "model": model,
            "generation": new.name,
            "artifact_id": new.artifact_id,
            "previous": old and old.generation.name,
            "users": new.num_users,
            "provider": loaded.scorer.provider,
        }
        log.info("generation serves", extra=fields)

    def _fail(self, model: str, raw: bytes | None, error: Exception) -> None:
        self._telemetry.load_failed(model, error)
        failure = self._failures.get(model)
        if failure is None or (failure.raw, str(failure.error)) != (raw, str(error)):
            keeps = self._serving.get(model)
            fields = {"model": model, "error": str(error), "keeps": keeps and keeps.generation.name}
            log.error("generation does not load", extra=fields)
            failure = self._failures[model] = _Failure(raw, error)
        failure.tries += 1
        failure.polls_to_wait = min(2 ** (failure.tries - 1), MAX_POLLS_BETWEEN_TRIES) - 1

    def close(self) -> None:
        """Let go of the loader's thread."""
        self._loader.shutdown(wait=False, cancel_futures=True)


def _unloaded(model: str) -> str:
    return f"model {model!r} was unloaded; POST /v2/repository/models/{model}/load serves it again"


def _tell_nobody(_: Serving | None, __: Serving | None) -> None:
    """Where nothing is kept for a generation."""


async def _warm_nothing_up(_: Serving) -> None:
    """What a follower does that nobody told how."""
