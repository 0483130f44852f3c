"""The generations whose records follow events: of each model, the one that serves and the one that is being published.

Pointers are read every second. An artifact loads in a thread; until it is there, events are folded into what was there
before, and the new generation is caught up from the logs afterwards. The previous generation is not followed: after a
rollback it is caught up, too. Records that hold events of new items are made anew when these change.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from models.contract.errors import GenerationError
from models.contract.generation import (
    MODELS_KEY,
    Generation,
    Pointer,
    model_names,
    pointer_key,
)
from models.live.catch_up import BATCH_USERS, touched_users
from models.live.keys import coming_key
from models.live.refold import Outcome, Target, refold
from service.follow.graph import Loaded
from service.follow.metrics import WorkerMetrics
from service.follow.new_items import NewItemWatch, Revisit, unknown_items

RETRY_S = 10.0
"""How long after an artifact did not load it is tried again."""
log = logging.getLogger(__name__)


class Targets:
    """Keeps the list up to date, and the users that are still to be caught up.

    Attributes:
        folded: generations into which events are folded now.
        metrics: count what is done.
        oldest_cut_s: the earliest cut of all generations that may serve; None while it is not known.
    """

    def __init__(
        self,
        client: Any,
        load: Callable[[str], Loaded],
        models: Collection[str],
        clock: Callable[[], float],
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """Follow nothing until the first look.

        Args:
            client: the cache, redis-py's.
            load: loads an artifact.
            models: names of the models to follow; empty: all.
            clock: returns seconds.
            metrics: count what is done; None: counted and shown nowhere.
        """
        self.metrics = metrics or WorkerMetrics()
        self._client, self._load, self._models, self._clock = client, load, frozenset(models), clock
        self._loaded: dict[str, Loaded] = {}
        self._loading: dict[str, Future[Loaded]] = {}
        self._failed_at_s: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(1, "load-artifact")
        self._serving: dict[str, Target] = {}
        self._coming: dict[str, Target] = {}
        self._behind: dict[str, deque[str]] = {}
        self._new_items = NewItemWatch(client)
        self._revisits: dict[str, Revisit] = {}
        self._changed: set[str] = (
            set()
        )  # new items; until every model has taken note, whatever fails
        self._unfollowed: set[str] = set()
        self.oldest_cut_s: int | None = None

    @property
    def folded(self) -> list[Target]:
        """Generations into which events are folded now."""
        return [*self._serving.values(), *self._coming.values()]

    @property
    def behind(self) -> dict[str, int]:
        """Model -> users that are still to be caught up."""
        return {
            model: len(self._behind.get(model, ())) + self._to_revisit(model)
            for model in self._serving
        }

    @property
    def follows_all(self) -> bool:
        """Whether every model of the cache is followed."""
        return not self._models

    @property
    def is_loading(self) -> bool:
        """Whether an artifact is loading."""
        return bool(self._loading)

    def look(self) -> None:
        """Read the pointers; begin to load what is new, and switch to what has loaded.

        Errors of the client are not translated.
        """
        self._changed |= self._new_items.look()
        wanted, coming, cuts = self._read()
        self.oldest_cut_s = min(cuts, default=None)
        for model in self._serving.keys() - wanted.keys():
            log.info("model is not followed any more", extra={"model": model})
            del self._serving[model]
            self._behind.pop(model, None)
            self._revisits.pop(model, None)
        self._coming = {}
        for generation in coming:
            if (loaded := self._ready(generation.artifact_id)) is not None:
                target = loaded.target(generation, creates=False, new_items=self._new_items.found)
                self._coming[generation.model] = target
        for model, generation in wanted.items():
            self._switch(model, generation)
        if self._changed:
            self._renew()
        needed = {generation.artifact_id for generation in [*wanted.values(), *coming]}
        needed |= {target.generation.artifact_id for target in self._serving.values()}
        self._loaded = {name: kept for name, kept in self._loaded.items() if name in needed}
        # Nobody would take their results: the worker would take itself to be loading for ever.
        for artifact_id in self._loading.keys() - needed:
            self._loading.pop(artifact_id).cancel()

    def catch_up_all(self) -> None:
        """Bring every touched user of every followed generation up to date, bit by bit."""
        for model, target in self._serving.items():
            users = touched_users(self._client, target.generation)
            self._behind[model] = deque(users)
            self.metrics.caught_up(model)
            fields = {"model": model, "generation": target.generation.name, "users": len(users)}
            log.info("catching up", extra=fields)

    def catch_up_some(self) -> bool:
        """Bring the next users up to date; False if there are none."""
        for model, left in self._behind.items():
            if left and model in self._serving:
                users = [left[place] for place in range(min(BATCH_USERS, len(left)))]
                target = self._serving[model]
                outcome = refold(self._client, target, users, only_behind=True)
                self.note(target, outcome)
                for _ in users:
                    left.popleft()
                left.extend(outcome.contended)
                return True
        return self._revisit_some()

    def _revisit_some(self) -> bool:
        for model, revisit in self._revisits.items():
            if revisit.users and model in self._serving:
                target = self._serving[model]
                users = revisit.next(BATCH_USERS)
                affected = revisit.affected(self._client, target, users)
                outcome = refold(self._client, target, affected)
                self.note(target, outcome)
                revisit.done(users, outcome.contended)
                return True
        return False

    def _to_revisit(self, model: str) -> int:
        return len(self._revisits[model].users) if model in self._revisits else 0

    def _renew(self) -> None:
        """Fold with the new items of now, and look for users with events of those that changed."""
        for model, now in self._serving.items():
            loaded = self._loaded[now.generation.artifact_id]
            self._serving[model] = target = loaded.target(
                now.generation, creates=now.creates, new_items=self._new_items.found
            )
            if items := unknown_items(target, self._changed):
                users = touched_users(self._client, target.generation)
                left = self._revisits.get(model)
                self._revisits[model] = Revisit(items, deque(users)).joined(left)
        self._changed.clear()

    def note(self, target: Target, outcome: Outcome) -> None:
        """Count what became of users, and say once for a generation that it cannot follow events."""
        self.metrics.folded(target.folder, outcome)
        name = target.generation.name
        if outcome.unfollowed and name not in self._unfollowed:
            self._unfollowed.add(name)
            why = "it was published without base histories (cache.follow, or an older builder)"
            fields = {"model": target.generation.model, "generation": name, "reason": why}
            log.warning("states of users that the build knew do not follow events", extra=fields)

    def close(self) -> None:
        """Stop the loading thread."""
        self._pool.shutdown(cancel_futures=True)

    def _read(self) -> tuple[dict[str, Generation], list[Generation], list[int]]:
        wanted, coming, cuts = {}, [], []
        for model in model_names(self._client.smembers(MODELS_KEY)):
            if self._models and model not in self._models:
                continue
            try:
                pointer = _pointer(self._client.get(pointer_key(model)), model)
            except GenerationError as error:
                log.warning("pointer cannot be read", extra={"model": model, "error": str(error)})
                if model in self._serving:
                    wanted[model] = self._serving[model].generation
                continue
            wanted[model] = pointer.current
            for kept in (pointer.current, pointer.previous):
                cuts += [] if kept is None else [kept.as_of_s]
            new = _coming(self._client.get(coming_key(model)))
            if new is not None and new.model == model and new.name != pointer.current.name:
                coming.append(new)
        return wanted, coming, cuts

    def _switch(self, model: str, generation: Generation) -> None:
        now = self._serving.get(model)
        if now is not None and now.generation == generation:
            return
        loaded = self._ready(generation.artifact_id)
        if loaded is None:
            return
        # While it is written in place, users without a record may get one yet.
        found = self._new_items.found
        target = loaded.target(generation, creates=not generation.over, new_items=found)
        users = touched_users(self._client, generation)  # if it fails, the next look tries again
        self._serving[model] = target
        self._behind[model] = deque(users)
        self._revisits[model] = Revisit(None, deque(users if found.version else ()))
        self.metrics.caught_up(model)
        fields = {
            "model": model,
            "generation": generation.name,
            "folder": target.folder.name,
            "users_to_catch_up": len(users),
        }
        log.info("follows generation", extra=fields)

    def _ready(self, artifact_id: str) -> Loaded | None:
        """The artifact; None while it loads, or if it does not load."""
        if artifact_id in self._loaded:
            return self._loaded[artifact_id]
        future = self._loading.get(artifact_id)
        if future is None:
            failed_at_s = self._failed_at_s.get(artifact_id)
            if failed_at_s is None or self._clock() - failed_at_s >= RETRY_S:
                self._loading[artifact_id] = self._pool.submit(self._load, artifact_id)
            return None
        if not future.done():
            return None
        del self._loading[artifact_id]
        try:
            self._loaded[artifact_id] = future.result()
        except Exception as error:  # outermost handler of one artifact: other models must follow on
            self._failed_at_s[artifact_id] = self._clock()
            fields = {"artifact_id": artifact_id, "error": str(error)}
            log.error("artifact does not load: its generation is not followed", extra=fields)
            return None
        return self._loaded[artifact_id]


def _pointer(raw: bytes | None, model: str) -> Pointer:
    key = pointer_key(model)
    if raw is None:
        raise GenerationError(key, "the key is missing")
    return Pointer.from_bytes(raw, key)


def _coming(raw: bytes | None) -> Generation | None:
    """The generation that is being published; None if there is none, or it cannot be read."""
    try:
        return None if raw is None else Pointer.from_bytes(raw, "coming").current
    except GenerationError:
        return None
