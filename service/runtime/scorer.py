"""Owns one artifact's two ONNX sessions. Knows no HTTP and no Redis."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.contract.artifact import ENCODE, SCORE, Artifact
from models.contract.errors import ArtifactError
from models.contract.schema import PADDING, UNKNOWN

State = Mapping[str, NDArray[Any]]
"""One user's tensors, without the batch axis."""
Ids = NDArray[np.int64]
Feed = dict[str, NDArray[Any]]

MAX_EXPONENT = 700.0
"""Its exponential is a float64 still: a probability of 1e-304."""
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
WARM_UP_CANDIDATES = (1, 2, 64)
"""Slates scored before serving: a session's first runs allocate and choose kernels. Longer ones cost memory."""


def runtime_providers() -> list[str]:
    """ONNX Runtime providers to ask for: CUDA where this build has it, and the CPU behind it."""
    available = ort.get_available_providers()
    if CUDA in available:
        # CUDA's libraries may come as wheels, where the loader does not look; without them ONNX Runtime
        # falls back to the CPU with no more than a warning.
        ort.preload_dlls()
    return [name for name in (CUDA, CPU) if name in available]


@dataclass(frozen=True)
class Slate:
    """What one run of the score graph needs for one user.

    Attributes:
        state: the user's, as the state spec says.
        recent: catalogue rows of the latest events, newest last; only the latest N count.
        context: ids of the context fields.
        items: catalogue rows of the candidates.
    """

    state: State
    recent: Ids
    context: Ids
    items: Ids


class Scorer:
    """Encodes and scores with one artifact. Safe to use from several threads at once.

    Attributes:
        cold_start: the state of a user of whom nothing is known: no history, an unknown profile.
        provider: ONNX Runtime provider that runs the graphs.
    """

    cold_start: State
    provider: str

    def __init__(self, artifact: Artifact, num_threads: int) -> None:
        """Make both sessions, compute the cold-start state and score with it.

        Args:
            artifact: verified.
            num_threads: threads of one run.

        Raises:
            ArtifactError: a graph does not load, or does not do what the manifest says.
        """
        self._schema = artifact.manifest.schema
        self._spec = artifact.manifest.state_spec
        with _blaming(artifact.path):
            self._encode = _session(artifact.file(ENCODE), num_threads)
            self._score = _session(artifact.file(SCORE), num_threads)
            self._inputs = _input_names(self._score)
            self.cold_start = self._encode_nobody()
            for num_candidates in WARM_UP_CANDIDATES:
                self.probe(num_candidates)
        self.provider = self._score.get_providers()[0]

    def score(self, state: State, recent: Ids, context: Ids, items: Ids) -> NDArray[np.float64]:
        """Click probability of each candidate.

        Args:
            state: of one user, as the state spec says.
            recent: catalogue rows of the latest events, newest last; only the latest N count.
            context: ids of the context fields.
            items: catalogue rows of the candidates.

        Raises:
            ArtifactError: a score is not finite.
        """
        (scores,) = self.score_many([Slate(state, recent, context, items)])
        if isinstance(scores, ArtifactError):
            raise scores
        return scores

    def score_many(self, slates: Sequence[Slate]) -> list[NDArray[np.float64] | ArtifactError]:
        """Click probabilities of several users' candidates in one run, shorter slates padded.

        One slate's error is in its place, and the others have their scores.
        """
        longest = max(len(slate.items) for slate in slates)
        recent_length = self._schema.recent_length
        feed: Feed = {
            name: _joined([slate.state[name] for slate in slates]) for name in slates[0].state
        }
        feed["recent"] = _joined([right_aligned(slate.recent, recent_length) for slate in slates])
        feed["context_fields"] = _joined([slate.context for slate in slates])
        feed["items"] = _joined([_padded(slate.items, longest) for slate in slates])
        (logits,) = self._score.run(["logits"], self._declared(feed))
        return [
            _probabilities(row[: len(slate.items)])
            for row, slate in zip(logits, slates, strict=True)
        ]

    def _declared(self, feed: Feed) -> Feed:
        """What the score graph takes of `feed`: exporters drop the inputs that a graph does not use."""
        return {name: feed[name] for name in self._inputs}

    def probe(self, num_candidates: int = 1) -> None:
        """Score nobody on unknown candidates: raises unless a real score works.

        Raises:
            ArtifactError: the graph gives something else than one finite logit per candidate.
        """
        context = np.full(len(self._schema.context_fields), UNKNOWN, np.int64)
        items = np.full(num_candidates, UNKNOWN, np.int64)
        scores = self.score(self.cold_start, np.zeros(0, np.int64), context, items)
        if scores.shape != items.shape:
            raise ArtifactError(f"score: got logits of {scores.shape}, expected {items.shape}")

    def _encode_nobody(self) -> State:
        feed: Feed = {
            "history": np.full((1, self._schema.history_length), PADDING, np.int64),
            "ages": np.full((1, self._schema.history_length), PADDING, np.int64),
            "user_fields": np.full((1, len(self._schema.user_fields)), UNKNOWN, np.int64),
        }
        names = [tensor.name for tensor in self._spec]
        taken = {name: feed[name] for name in _input_names(self._encode)}
        found = self._encode.run(names, taken)
        state = {name: values[0] for name, values in zip(names, found, strict=True)}
        for tensor in self._spec:
            if state[tensor.name].shape != tensor.shape:
                got = state[tensor.name].shape
                raise ArtifactError(f"state {tensor.name!r}: got {got}, expected {tensor.shape}")
        return state


def right_aligned(rows: Ids, length: int) -> Ids:
    """The latest `length` of `rows`, padded in front."""
    aligned = np.full(length, PADDING, np.int64)
    latest = rows[max(len(rows) - length, 0) :]
    aligned[length - len(latest) :] = latest
    return aligned


def _session(path: Path, num_threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = (
        3  # errors: warnings are about graphs, and go past the log's format
    )
    # Spinning threads would take the cores that the event loop and other requests need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=runtime_providers())


def _input_names(session: ort.InferenceSession) -> list[str]:
    return [put.name for put in session.get_inputs()]


def _joined(tensors: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Along a new batch axis; one alone is not copied."""
    return tensors[0][None] if len(tensors) == 1 else np.stack(tensors)


def _padded(items: Ids, length: int) -> Ids:
    """With rows behind that nobody asked for; no candidate sees another."""
    if len(items) == length:
        return items
    return np.concatenate([items, np.full(length - len(items), UNKNOWN, np.int64)])


def _probabilities(logits: NDArray[Any]) -> NDArray[np.float64] | ArtifactError:
    # Few passes, in place: for a slate in the hundreds each costs more than its arithmetic.
    x: NDArray[np.float64] = np.negative(logits, dtype=np.float64)
    if not isfinite(x.sum()):  # it is, if and only if every logit is
        return ArtifactError("score: the graph gave a score that is not finite")
    np.minimum(x, MAX_EXPONENT, out=x)
    np.exp(x, out=x)
    x += 1.0
    # 1 / (1 + exp(-logit)) is precise everywhere: where exp is huge, its inverse is all there is.
    return np.reciprocal(x, out=x)


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turn whatever the runtime raises into an ArtifactError that names the artifact."""
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        raise ArtifactError(f"artifact: {path} cannot score: {error}") from error
