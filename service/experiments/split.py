"""Which model a request gets: the one it names, or the one that an experiment gives its user.

An experiment splits users among models by weight, with weighted rendezvous hashing: every model draws an exponential
number from a hash of (salt, model, user), divided by its weight, and the least wins. So a user keeps a model across
processes, restarts and machines; shares follow the weights; and a change of one model's weight moves users only to
that model (if it grew) or from it (if it shrank), as few as can be. Another salt draws everybody anew: two experiments
with their own salts are independent of each other.

    wins = argmin over models of  -ln(u) / weight,    u = (BLAKE2b-64(salt 0x00 model 0x00 user) + ½) / 2^64
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
    """One experiment, ready to draw."""

    def __init__(self, salt: str, weights: Mapping[str, float]) -> None:
        self._arms = [
            (name, weight, blake2b(f"{salt}\0{name}\0".encode(), digest_size=DIGEST_BYTES))
            for name, weight in sorted(weights.items())
            if weight > 0
        ]

    def model_of(self, user_id: str) -> str:
        """The model that scores for a user."""
        user, best, least = user_id.encode(), "", inf
        for name, weight, prefix in self._arms:
            hashed = prefix.copy()
            hashed.update(user)
            drawn = -log((int.from_bytes(hashed.digest(), "big") + 0.5) / DRAWS) / weight
            if drawn < least:
                best, least = name, drawn
        return best


class Traffic:
    """Picks what scores a request. A name is an experiment's before it is a model's."""

    def __init__(
        self, experiments: Mapping[str, Experiment], selection: Selection, metrics: TrafficMetrics
    ) -> None:
        self._selection = selection
        self._metrics = metrics
        self._splits = {
            name: Split(name if one.salt is None else one.salt, one.weights)
            for name, one in experiments.items()
        }
        self._default = next((name for name, one in experiments.items() if one.default), None)

    def pick(self, model: str | None, user_id: str) -> Serving:
        """What scores this request; the default model where an experiment's model does not serve.

        Raises:
            UnknownModelError: no such model, and no such experiment.
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

    def foresee(self, model: str | None, user_id: str) -> Serving:
        """What `pick` would give, uncounted: the user has not asked yet.

        Raises:
            UnknownModelError: no such model, and no such experiment.
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
