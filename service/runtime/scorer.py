"""Scores slates with one artifact's two ONNX sessions. Independent of HTTP and of the cache."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.contract.artifact import ENCODE, SCORE, Artifact
from models.contract.calibration import NONE as UNCALIBRATED
from models.contract.calibration import Calibration
from models.contract.errors import ArtifactError
from models.contract.schema import PADDING, UNKNOWN
from service.errors import ScoreError

State = Mapping[str, NDArray[Any]]
"""One user's tensors, without the batch axis."""
Ids = NDArray[np.int64]
Feed = dict[str, NDArray[Any]]
Probabilities = NDArray[np.float64]
CandidateFields = Mapping[str, Sequence[str | None]]
"""Candidate field -> raw value of each candidate; None where a candidate has no value."""
UnknownFields = dict[str, list[str | None]]
"""Field -> its values that training has not seen, each once; None: a candidate, or the context, has no value."""

MAX_EXPONENT = 700.0
"""exp of it still fits a float64; the probability is then 1e-304."""
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
PROVIDER_OPTIONS = {CUDA: {"use_tf32": "0"}}
"""TF32, which ONNX Runtime uses by default, keeps 10 bits of a factor: scores would not be the CPU's."""
WARM_UP_CANDIDATES = (1, 2, 64)
"""Slate sizes that are scored before serving: a session's first runs allocate memory and choose kernels. Longer slates
would only take more memory."""


def runtime_providers() -> list[str]:
    """ONNX Runtime providers to ask for: CUDA if this build has it, then the CPU."""
    available = ort.get_available_providers()
    if CUDA in available:
        # CUDA's libraries may be installed as wheels, where the loader does not search. Without them ONNX Runtime
        # falls back to the CPU and only logs a warning.
        ort.preload_dlls()
    return [name for name in (CUDA, CPU) if name in available]


class Scored(NamedTuple):
    """Scores of one slate.

    Attributes:
        scores: click probabilities in the order of the candidates.
        unknown_candidates: raw ids of the candidates that the catalogue does not hold.
        unknown_fields: values of candidate fields that are scored as the unknown value.
    """

    scores: Probabilities
    unknown_candidates: list[str]
    unknown_fields: UnknownFields


@dataclass(frozen=True)
class Slate:
    """One user's candidates and what they are scored with.

    Attributes:
        state: the user's tensors, as the state spec says.
        recent: raw ids of the latest items, newest last; None: `record_recent`. Only the latest N count.
        record_recent: catalogue rows of the latest items in the user's record, newest last.
        context: ids of the context fields, [num context fields].
        candidates: raw item ids.
        candidate_fields: only fields that the model has; those that are absent are unknown.
        ended: stage -> moment of `perf_counter()` at which it ended. The scorer adds queue, decode and score.
    """

    state: State
    recent: Sequence[str] | None
    record_recent: Ids
    context: Ids
    candidates: Sequence[str]
    candidate_fields: CandidateFields
    ended: dict[str, float]


@dataclass(frozen=True)
class _Rows:
    """A slate whose ids are catalogue rows, and whose fields are dense ids."""

    recent: Ids
    items: Ids
    fields: Ids


class Scorer:
    """Encodes and scores with one artifact. Several threads may use it at once.

    Attributes:
        cold_start: state of a user without history and with an unknown profile.
        provider: ONNX Runtime provider that runs the graphs.
        calibration: kind of the artifact's calibration, which is applied after the graph; "none" without one.
    """

    cold_start: State
    provider: str
    calibration: str

    def __init__(self, artifact: Artifact, num_threads: int) -> None:
        """Open both sessions, compute the cold-start state and score with it.

        Args:
            artifact: verified.
            num_threads: threads of one run.

        Raises:
            ArtifactError: a graph changed since it was verified, keeps data outside its own bytes, does not load, or
                does not do what the manifest says.
        """
        self._schema = artifact.manifest.schema
        self._spec = artifact.manifest.state_spec
        self._vocabulary = artifact.vocabulary
        self._item_rows = artifact.vocabulary.item_rows
        self._calibrated = artifact.calibration()
        self.calibration = self._calibrated.kind if self._calibrated else UNCALIBRATED
        with _artifact_errors(artifact.path):
            self._encode = _session(artifact.graph(ENCODE), num_threads)
            self._score = _session(artifact.graph(SCORE), num_threads)
            self._inputs = _input_names(self._score)
            self.cold_start = self._encode_unknown_user()
            for num_candidates in WARM_UP_CANDIDATES:
                self.probe(num_candidates)
        self.provider = self._score.get_providers()[0]

    def score_many(self, slates: Sequence[Slate]) -> list[Scored | Exception]:
        """Score several users' candidates in one run of the graph; shorter slates are padded.

        Args:
            slates: the slates, at least one.

        Returns:
            One result for each slate: scores, or a ScoreError. An error of one slate does not affect the others.
        """
        rows = [self._decode(slate) for slate in slates]
        probabilities = self._run_or_fail(slates, rows)
        return [
            self._result(slate, its_rows, scores)
            for slate, its_rows, scores in zip(slates, rows, probabilities, strict=True)
        ]

    def _decode(self, slate: Slate) -> _Rows:
        slate.ended["queue"] = perf_counter()
        recent = slate.record_recent if slate.recent is None else self._item_rows(slate.recent)
        items = self._item_rows(slate.candidates)
        fields = self._vocabulary.candidate_ids(slate.candidate_fields, len(items))
        rows = _Rows(recent, items, fields)
        slate.ended["decode"] = perf_counter()
        return rows

    def _run_or_fail(
        self, slates: Sequence[Slate], rows: Sequence[_Rows]
    ) -> Sequence[Probabilities | ScoreError]:
        """Run the graph; if it fails, run it for each slate alone, since one slate's state may be the reason."""
        states = [slate.state for slate in slates]
        contexts = [slate.context for slate in slates]
        try:
            return self._run(states, rows, contexts)
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            if len(slates) == 1:
                failure = ScoreError("the graph failed, as the log says,")
                failure.__cause__ = error
                return [failure]
            alone = zip(slates, rows, strict=True)
            return [self._run_or_fail([slate], [its_rows])[0] for slate, its_rows in alone]

    def _run(
        self, states: Sequence[State], rows: Sequence[_Rows], contexts: Sequence[Ids]
    ) -> list[Probabilities | ScoreError]:
        longest = max(len(slate.items) for slate in rows)
        recent_length = self._schema.recent_length
        feed: Feed = {name: _stacked([state[name] for state in states]) for name in states[0]}
        feed["recent"] = _stacked([right_aligned(slate.recent, recent_length) for slate in rows])
        feed["context_fields"] = _stacked(contexts)
        feed["items"] = _stacked([_padded(slate.items, longest) for slate in rows])
        feed["candidate_fields"] = _stacked([_padded(slate.fields, longest) for slate in rows])
        # Exporters drop the inputs that a graph does not use.
        declared = {name: feed[name] for name in self._inputs}
        (logits,) = self._score.run(["logits"], declared)
        return [
            _probabilities(row[: len(slate.items)], self._calibrated)
            for row, slate in zip(logits, rows, strict=True)
        ]

    def probe(self, num_candidates: int = 1) -> None:
        """Score unknown candidates for an unknown user, to see whether scoring works.

        Raises:
            ArtifactError: the graph does not give one finite logit for each candidate.
        """
        context = np.full(len(self._schema.context_fields), UNKNOWN, np.int64)
        items = np.full(num_candidates, UNKNOWN, np.int64)
        fields = np.full((num_candidates, len(self._schema.candidate_fields)), UNKNOWN, np.int64)
        rows = _Rows(np.zeros(0, np.int64), items, fields)
        (scores,) = self._run([self.cold_start], [rows], [context])
        if isinstance(scores, ScoreError):
            raise scores
        if scores.shape != items.shape:
            raise ArtifactError(f"score: got logits of {scores.shape}, expected {items.shape}")

    def _result(
        self, slate: Slate, rows: _Rows, scores: Probabilities | ScoreError
    ) -> Scored | Exception:
        slate.ended["score"] = perf_counter()
        if isinstance(scores, ScoreError):
            return scores
        unknown = [slate.candidates[at] for at in np.flatnonzero(rows.items == UNKNOWN).tolist()]
        names = [field.name for field in self._schema.candidate_fields]
        return Scored(scores, unknown, _unknown_fields(names, slate.candidate_fields, rows.fields))

    def _encode_unknown_user(self) -> State:
        feed: Feed = {
            "history": np.full((1, self._schema.history_length), PADDING, np.int64),
            "ages": np.full((1, self._schema.history_length), PADDING, np.int64),
            "user_fields": np.full((1, len(self._schema.user_fields)), UNKNOWN, np.int64),
        }
        names = [tensor.name for tensor in self._spec]
        declared = {name: feed[name] for name in _input_names(self._encode)}
        outputs = self._encode.run(names, declared)
        state = {name: values[0] for name, values in zip(names, outputs, strict=True)}
        for tensor in self._spec:
            if state[tensor.name].shape != tensor.shape:
                got = state[tensor.name].shape
                raise ArtifactError(f"state {tensor.name!r}: got {got}, expected {tensor.shape}")
        return state


def _unknown_fields(names: Sequence[str], values: CandidateFields, ids: Ids) -> UnknownFields:
    """Values of each field whose id is `UNKNOWN`, each once, in the order of the candidates."""
    unknown: UnknownFields = {}
    for column, name in enumerate(names):
        places = np.flatnonzero(ids[:, column] == UNKNOWN).tolist()
        if places:
            raw = values.get(name)
            unknown[name] = [None] if raw is None else list(dict.fromkeys(raw[at] for at in places))
    return unknown


def right_aligned(rows: Ids, length: int) -> Ids:
    """Keep the latest `length` of `rows`; shorter ones are padded in front."""
    aligned = np.full(length, PADDING, np.int64)
    latest = rows[max(len(rows) - length, 0) :]
    aligned[length - len(latest) :] = latest
    return aligned


def _session(graph: bytes, num_threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # Nothing below fatal: ONNX Runtime does not write in the log's format, and its errors are raised as well.
    options.log_severity_level = 4
    # Spinning threads would take the cores that the event loop and other requests need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [(name, PROVIDER_OPTIONS.get(name, {})) for name in runtime_providers()]
    session = ort.InferenceSession(graph, options, providers=providers)
    if session.get_providers() == [CPU]:
        # ONNX Runtime keeps the bytes, to open the session again on the CPU when another provider fails. Here there is
        # none, and they would double the memory of a graph.
        session.disable_fallback()
        session._model_bytes = None
    return session


def _input_names(session: ort.InferenceSession) -> list[str]:
    return [tensor.name for tensor in session.get_inputs()]


def _stacked(tensors: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack along a new batch axis; a single tensor is not copied."""
    return tensors[0][None] if len(tensors) == 1 else np.stack(tensors)


def _padded(ids: Ids, length: int) -> Ids:
    """Append unknown candidates up to `length`; candidates do not see each other, so this changes no score."""
    if len(ids) == length:
        return ids
    padding = np.full((length - len(ids), *ids.shape[1:]), UNKNOWN, np.int64)
    return np.concatenate([ids, padding])


def _probabilities(
    logits: NDArray[Any], calibration: Calibration | None
) -> Probabilities | ScoreError:
    # Few passes, in place: for some hundred candidates each pass costs more than its arithmetic.
    if calibration is not None:
        logits = calibration.log_odds(logits.astype(np.float64))
    x: Probabilities = np.negative(logits, dtype=np.float64)
    if not np.isfinite(x).all():  # not the sum, which warns of inf - inf
        return ScoreError("the graph gave a score that is not finite")
    np.minimum(x, MAX_EXPONENT, out=x)
    np.exp(x, out=x)
    x += 1.0
    # 1 / (1 + exp(-logit)) is accurate everywhere: where exp is huge, the result is its inverse.
    return np.reciprocal(x, out=x)


@contextmanager
def _artifact_errors(path: Path) -> Iterator[None]:
    """Turn every exception of ONNX Runtime into an ArtifactError that names the artifact."""
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        raise ArtifactError(f"artifact: {path} cannot score: {error}") from error
