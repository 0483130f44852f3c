"""Which model scores a request: the model it names, or the one that an experiment assigns to the user.

An experiment divides users among models by weight, with weighted rendezvous hashing: for every model, a hash of (salt,
model, user) gives an exponentially distributed number, which is divided by the model's weight; the smallest wins. The
assignment is therefore the same in every process, after a restart and on every machine, and the shares follow the
weights. A change of one weight moves users only to that model (if it grew) or away from it (if it shrank), and as few
as possible. Experiments with different salts assign independently of each other.

    model = argmin over models of  -ln(u) / weight,    u = (BLAKE2b-64(salt 0x00 model 0x00 user) + ½) / 2^64
"""

from collections.abc import Mapping
from hashlib import blake2b
from math import inf, log

from models.contract.errors import UnknownModelError
from service.errors import NotReadyError
from service.experiments.metrics import TrafficMetrics
from service.generations.selection import Selection
from service.generations.serving import Serving
from service.traffic_rules import Experiment

DIGEST_BYTES = 8
DRAWS = 1 << (8 * DIGEST_BYTES)


class Split:
    """The assignment of users to models of one experiment."""

    def __init__(self, salt: str, weights: Mapping[str, float]) -> None:
        self._arms = [
            (name, weight, blake2b(f"{salt}\0{name}\0".encode(), digest_size=DIGEST_BYTES))
            for name, weight in sorted(weights.items())
            if weight > 0
        ]

    @property
    def models(self) -> list[str]:
        """The models that users are assigned to."""
        return [name for name, _, _ in self._arms]

    def model_of(self, user_id: str) -> str:
        """The model assigned to a user."""
        user, best, smallest = user_id.encode(), "", inf
        for name, weight, prefix in self._arms:
            hashed = prefix.copy()
            hashed.update(user)
            drawn = -log((int.from_bytes(hashed.digest(), "big") + 0.5) / DRAWS) / weight
            if drawn < smallest:
                best, smallest = name, drawn
        return best


class Traffic:
    """Chooses what scores a request. An experiment takes precedence over a model of the same name."""

    def __init__(
        self, experiments: Mapping[str, Experiment], selection: Selection, metrics: TrafficMetrics
    ) -> None:
        self._selection = selection
        self._metrics = metrics
        self._splits = {
            name: Split(name if experiment.salt is None else experiment.salt, experiment.weights)
            for name, experiment in experiments.items()
        }
        self._default = next((name for name, rules in experiments.items() if rules.default), None)

    def pick(self, model: str | None, user_id: str) -> Serving:
        """What scores this request; the default model if the assigned model does not serve.

        Raises:
            UnknownModelError: neither a model nor an experiment has this name.
            NotReadyError: nothing is loaded yet.
        """
        name = self._default if model is None else model
        split = self._splits.get(name) if name is not None else None
        if name is None or split is None:
            return self._selection.pick(model)
        chosen = split.model_of(user_id)
        self._metrics.assigned(name, chosen)
        try:
            return self._selection.pick(chosen)
        except (NotReadyError, UnknownModelError):
            self._metrics.fell_back(name, chosen)
            return self._selection.pick(None)

    def models_of(self, model: str | None) -> list[str]:
        """The models among which the request's experiment divides users; none if it belongs to no experiment."""
        name = self._default if model is None else model
        split = self._splits.get(name) if name is not None else None
        return [] if split is None else split.models

    def foresee(self, model: str | None, user_id: str) -> Serving:
        """What `pick` would return, without counting a request.

        Raises:
            UnknownModelError: neither a model nor an experiment has this name.
            NotReadyError: nothing is loaded yet.
        """
        name = self._default if model is None else model
        split = self._splits.get(name) if name is not None else None
        if split is None:
            return self._selection.pick(model)
        try:
            return self._selection.pick(split.model_of(user_id))
        except (NotReadyError, UnknownModelError):
            return self._selection.pick(None)
