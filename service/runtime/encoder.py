"""Runs an artifact's encode graph: for the cold-start state, and for states that engines are compared on."""

import numpy as np

from models.contract.age import NUM_AGES
from models.contract.artifact import ENCODE, Artifact
from models.contract.errors import ArtifactError
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN
from service.runtime.engines.engine import Ids, State
from service.runtime.engines.onnxruntime import input_names, open_session


class Encoder:
    """One artifact's encode graph. A service needs it only while it loads the artifact."""

    def __init__(self, artifact: Artifact, num_threads: int) -> None:
        """Open the session.

        Args:
            artifact: verified.
            num_threads: threads of one run.

        Raises:
            ArtifactError: the graph changed since it was verified, or keeps data outside its own bytes.
            Exception: ONNX Runtime refuses the graph; its errors have no base class of their own.
        """
        self._schema = artifact.manifest.schema
        self._spec = artifact.manifest.state_spec
        self._session = open_session(artifact.graph(ENCODE), num_threads)

    def cold_start(self) -> State:
        """State of a user without history and with an unknown profile.

        Raises:
            ArtifactError: a tensor has another shape than the manifest says.
            Exception: the run failed.
        """
        return self._run(np.zeros(0, np.int64), np.zeros(0, np.int64))

    def random_state(self, num_events: int, rng: np.random.Generator) -> State:
        """State of a user with random events, each of another item as far as the catalogue has that many.

        Args:
            num_events: at most the history length.
            rng: draws items and ages.

        Raises:
            ArtifactError: as `cold_start`.
            Exception: as `cold_start`.
        """
        num_events = min(num_events, self._schema.history_length)
        known = np.arange(min(FIRST_KNOWN, self._schema.num_items - 1), self._schema.num_items)
        items = rng.choice(known, num_events, replace=len(known) < num_events)
        ages = np.sort(rng.integers(1, NUM_AGES, num_events))[::-1]
        return self._run(items.astype(np.int64), ages.astype(np.int64))

    def state_of(self, items: Ids, ages: Ids, user_fields: Ids) -> State:
        """State of a user.

        Args:
            items: catalogue rows of the latest events, oldest first; at most the history length.
            ages: their age buckets.
            user_fields: dense ids of the profile, [num user fields].

        Raises:
            ArtifactError: as `cold_start`.
            Exception: as `cold_start`.
        """
        return self._run(items, ages, user_fields)

    def _run(self, items: Ids, ages: Ids, profile: Ids | None = None) -> State:
        length = self._schema.history_length
        history = np.full((2, 1, length), PADDING, np.int64)
        history[:, 0, length - len(items) :] = items, ages
        user_fields = np.full((1, len(self._schema.user_fields)), UNKNOWN, np.int64)
        if profile is not None:
            user_fields[0] = profile
        feed = {"history": history[0], "ages": history[1], "user_fields": user_fields}
        declared = {name: feed[name] for name in input_names(self._session)}
        names = [tensor.name for tensor in self._spec]
        outputs = self._session.run(names, declared)
        state = {name: values[0] for name, values in zip(names, outputs, strict=True)}
        self._check_shapes(state)
        return state

    def _check_shapes(self, state: State) -> None:
        for tensor in self._spec:
            if state[tensor.name].shape != tensor.shape:
                got = state[tensor.name].shape
                raise ArtifactError(f"state {tensor.name!r}: got {got}, expected {tensor.shape}")
