"""Which generation serves a model now, which model is the default, and why a model does not serve."""

import logging
from collections.abc import Collection, Sequence

from models.contract.errors import UnknownModelError
from models.contract.generation import first_choice
from service.errors import NotReadyError
from service.generations.serving import Serving

log = logging.getLogger(__name__)


DEFAULT_SETTING = "ABSORB_DEFAULT_MODEL"


class Selection:
    """One `Serving` per model. Requests read it; the follower changes it. Used on the event loop only.

    Attributes:
        cache_error: why the generation pointers could not be read last time; None if they could.
    """

    def __init__(self, configured_default: str | None) -> None:
        """Begin with no model.

        Args:
            configured_default: model of requests that name none; None: that of the cache.
        """
        self._configured_default = configured_default
        self._published_default: str | None = None
        self._published: frozenset[str] = frozenset()
        self._serving: dict[str, Serving] = {}
        self._failures: dict[str, str] = {}
        self._unloaded: dict[str, str] = {}
        self.cache_error: str | None = None

    @property
    def serving(self) -> dict[str, Serving]:
        """Model -> what serves it now, sorted by name."""
        return dict(sorted(self._serving.items()))

    @property
    def default_model(self) -> str | None:
        """Model of requests that name none; None while there is none. It need not serve.

        The setting's, else the cache's, which stays when its key is lost; in a cache without one, `first_choice`.
        """
        chosen = self._configured_default or self._published_default
        # An unloaded model counts too: to unload the default does not make another model the default.
        return chosen or first_choice(self._serving.keys() | self._unloaded.keys())

    def note_published(self, models: Collection[str], default: str | None) -> None:
        """Take what the cache names.

        Args:
            models: the published models.
            default: the default model; None: the cache names none, and the one before stays.
        """
        self._published = frozenset(models)
        if default is not None and default != self._published_default:
            fields = {"model": default, "previous": self._published_default}
            log.info("default model", extra=fields)
            self._published_default = default

    @property
    def problems(self) -> dict[str, str]:
        """Model -> why it does not serve, or why an older generation serves than the published one."""
        unloaded = {model: self._why_unloaded(model) for model in self._unloaded}
        return self._failures | unloaded

    def pick(self, model: str | None) -> Serving:
        """What serves `model` now; None picks the default model. A request keeps the result until it ends.

        Raises:
            UnknownModelError: no such model is published.
            NotReadyError: nothing is loaded yet, or not the default model, or the model loads, or failed to.
        """
        name = self.default_model if model is None else model
        if name is not None and name in self._serving:
            return self._serving[name]
        if name in self._unloaded:
            raise NotReadyError(f"not ready: {self._why_unloaded(name)}")
        is_coming = model in self._failures or model in self._published
        if not self._serving or model is None or is_coming:
            hint = self._hint() if model is None and self._serving else ""
            raise NotReadyError(f"not ready: {self._reason(name)}{hint}")
        raise UnknownModelError(model, self._serving)

    def pick_to_probe(self) -> Serving:
        """The default model; if that was unloaded, or is not published any more, the first that serves.

        A default model that does not load makes a new process not ready: the processes that serve it stay.

        Raises:
            NotReadyError: nothing serves, or the default model does not yet.
        """
        default = self.default_model
        is_removed = self._configured_default is None and default not in self._published
        is_away = default not in self._serving and (default in self._unloaded or is_removed)
        if self._serving and is_away:
            return next(iter(self.serving.values()))
        return self.pick(None)

    def pick_several(self, models: Sequence[str] | None) -> dict[str, Serving | NotReadyError]:
        """What serves each of `models` now, or why nothing does; None picks all models that serve.

        Raises:
            UnknownModelError: one of them is not published.
            NotReadyError: `models` is None, and nothing is loaded yet.
        """
        if models is None and not self._serving:
            raise NotReadyError(f"not ready: {self._reason(self.default_model)}")
        names = self.serving if models is None else models
        return {name: self._try_pick(name) for name in names}

    def _try_pick(self, model: str) -> Serving | NotReadyError:
        try:
            return self.pick(model)
        except NotReadyError as error:
            return error

    def _hint(self) -> str:
        change = "absorb default MODEL" if self._configured_default is None else DEFAULT_SETTING
        names = ", ".join(self.serving)
        return (
            f"; it is the default model: name one of {names} in the request, or change the default "
            f"({change})"
        )

    def _reason(self, model: str | None) -> str:
        error = self._failures.get(model) if model else next(iter(self._failures.values()), None)
        if error is not None:
            return error
        if model is None and self._unloaded:
            return "; ".join(map(self._why_unloaded, self._unloaded))
        if self.cache_error is not None:
            return self.cache_error
        if loading := self._published & {model} if model else self._published:
            return f"the generation of {', '.join(sorted(loading))} is published, and loads"
        return f"no generation of {model or 'any model'} is published yet"

    @property
    def published(self) -> frozenset[str]:
        """Names of the published models, as far as they were read."""
        return self._published

    def forget(self, model: str) -> Serving:
        """Stop serving a model that is not published any more; returns what served it."""
        return self._serving.pop(model)

    def current(self, model: str) -> Serving | None:
        """What serves `model` now; None if nothing does."""
        return self._serving.get(model)

    def is_unloaded(self, model: str) -> bool:
        """Whether `unload` has stopped `model`."""
        return model in self._unloaded

    def failure(self, model: str) -> str | None:
        """Why the published generation of `model` did not load; None if it did."""
        return self._failures.get(model)

    def serve(self, model: str, serving: Serving) -> None:
        """Serve `model` from `serving` from now on."""
        self._serving[model] = serving

    def fail(self, model: str, error: str) -> None:
        """Note why the published generation of `model` does not load; what serves stays."""
        self._failures[model] = error

    def recover(self, model: str) -> None:
        """Forget that a generation of `model` did not load."""
        self._failures.pop(model, None)

    def unload(self, model: str, why: str) -> Serving | None:
        """Stop serving `model` until `allow`; returns what served it.

        Args:
            model: name of the model.
            why: when and by whom, as the errors of its requests say.

        Raises:
            UnknownModelError: the model is neither serving, nor failing, nor unloaded.
        """
        known = {*self._serving, *self._failures, *self._unloaded}
        if model not in known:
            raise UnknownModelError(model, known)
        self._unloaded[model] = why
        self.recover(model)
        return self._serving.pop(model, None)

    def allow(self, model: str) -> None:
        """Let `model` be loaded again."""
        self._unloaded.pop(model, None)

    def _why_unloaded(self, model: str) -> str:
        load = f"POST /v2/repository/models/{model}/load serves it again"
        return f"model {model!r} was unloaded {self._unloaded[model]}; {load}"
