"""Scores slates with one artifact's engine. Independent of HTTP and of the cache."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.contract.artifact import Artifact
from models.contract.calibration import NONE as UNCALIBRATED
from models.contract.calibration import Calibration
from models.contract.errors import ArtifactError
from models.contract.schema import UNKNOWN
from models.live.new_items import NewRows
from service.errors import ScoreError
from service.native.rows import Rows
from service.runtime.encoder import Encoder
from service.runtime.engines.choose import AUTO, Choice, OnFallback, choose
from service.runtime.engines.engine import EngineSlate, Help, Ids, Logits, State, StateMemory

Probabilities = NDArray[np.float64]
CandidateFields = Mapping[str, Sequence[str | None]]
"""Candidate field -> raw value of each candidate; None where a candidate has no value."""
UnknownFields = dict[str, list[str | None]]
"""Field -> its values that are unknown or missing, each once; None: a candidate, or the context, has no value."""

MAX_EXPONENT = 700.0
"""exp of it still fits a float64; the probability is then 1e-304."""
WARM_UP_CANDIDATES = (1, 2, 64)
"""Slate sizes that are scored before serving: an engine's first runs allocate memory and choose kernels. Longer slates
would only take more memory."""


class Scored(NamedTuple):
    """Scores of one slate.

    Attributes:
        scores: click probabilities in the order of the candidates.
        unknown_candidates: raw ids of the candidates that the catalogue does not hold, and that are no new items.
        new_items: raw ids of the candidates that are scored by their item fields alone.
        unknown_fields: values of candidate fields that are scored as the unknown value.
    """

    scores: Probabilities
    unknown_candidates: list[str]
    new_items: list[str]
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
        help: as in `EngineSlate`.
    """

    state: State
    recent: Sequence[str] | None
    record_recent: Ids
    context: Ids
    candidates: Sequence[str]
    candidate_fields: CandidateFields
    ended: dict[str, float]
    help: Help | None = None


class Scorer:
    """Scores with one artifact. Several threads may use it at once.

    Attributes:
        cold_start: state of a user without history and with an unknown profile.
        choice: the engine that computes the logits, and why.
        device: of that engine.
        calibration: kind of the artifact's calibration, which is applied after the logits; "none" without one.
    """

    cold_start: State
    choice: Choice
    device: str
    calibration: str

    def __init__(
        self,
        artifact: Artifact,
        num_threads: int,
        engine: str = AUTO,
        on_fallback: OnFallback = lambda engine, reason: None,
    ) -> None:
        """Compute the cold-start state, choose the engine and score with it.

        Args:
            artifact: verified.
            num_threads: threads of one run.
            engine: as `ABSORB_ENGINE`.
            on_fallback: called when ONNX Runtime scores a slate in another engine's place.

        Raises:
            ArtifactError: a graph changed since it was verified, keeps data outside its own bytes, does not load, or
                does not do what the manifest says.
        """
        self._schema = artifact.manifest.schema
        self._rows = Rows(artifact.vocabulary)
        self._new_rows, self._has_known_new = NewRows(), False
        self._first_prototype = artifact.vocabulary.first_prototype
        self._last_listed = artifact.vocabulary.last_listed()
        self._calibrated = artifact.calibration()
        self.calibration = self._calibrated.kind if self._calibrated else UNCALIBRATED
        with _artifact_errors(artifact.path):
            self.cold_start, self.choice = _prepare(artifact, num_threads, engine, on_fallback)
            self._engine = self.choice.engine
            self.device = self._engine.device
            for num_candidates in WARM_UP_CANDIDATES:
                self.probe(num_candidates)

    @property
    def state_memory(self) -> StateMemory | None:
        """Where the engine keeps users' states on a device; None: nowhere."""
        return self._engine.memory

    @property
    def is_shared(self) -> bool:
        """Whether several threads can score one slate together, each as much as it has time for: `Slate.help`."""
        return self._engine.limits.is_shared

    def know(self, new: NewRows) -> None:
        """Score these new items by their prototypes from now on. One assignment: other threads may be scoring."""
        self._has_known_new |= bool(new)
        self._new_rows = new

    def score_many(self, slates: Sequence[Slate]) -> list[Scored | Exception]:
        """Score several users' candidates in one call of the engine.

        Args:
            slates: the slates, at least one.

        Returns:
            One result for each slate: scores, or a ScoreError. An error of one slate does not affect the others.
        """
        rows = [self._decode(slate) for slate in slates]
        logits = self._run_or_fail(rows)
        return [
            self._result(slate, its_rows, its_logits)
            for slate, its_rows, its_logits in zip(slates, rows, logits, strict=True)
        ]

    def _decode(self, slate: Slate) -> EngineSlate:
        slate.ended["queue"] = perf_counter()
        recent = slate.record_recent if slate.recent is None else self._rows.items(slate.recent)
        items = self._rows.items(slate.candidates)
        if self._has_known_new:
            self._new_rows.fill(slate.candidates, items)
            if slate.recent is not None:
                self._new_rows.fill(slate.recent, recent)
        fields = self._rows.fields(slate.candidate_fields, len(items))
        rows = EngineSlate(slate.state, recent, slate.context, items, fields, slate.help)
        slate.ended["decode"] = perf_counter()
        return rows

    def _run_or_fail(self, slates: Sequence[EngineSlate]) -> Sequence[Logits | ScoreError]:
        """Run the engine; if it fails, run it for each slate alone, since one slate's state may be the reason."""
        try:
            return self._engine.score_many(slates)
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            if len(slates) == 1:
                failure = ScoreError("the graph failed, as the log says,")
                failure.__cause__ = error
                return [failure]
            return [self._run_or_fail([slate])[0] for slate in slates]

    def probe(self, num_candidates: int = 1) -> None:
        """Score unknown candidates for an unknown user, to see whether scoring works.

        Raises:
            ArtifactError: the graph does not give one finite logit for each candidate.
        """
        context = np.full(len(self._schema.context_fields), UNKNOWN, np.int64)
        items = np.full(num_candidates, UNKNOWN, np.int64)
        fields = np.full((num_candidates, len(self._schema.candidate_fields)), UNKNOWN, np.int64)
        slate = EngineSlate(self.cold_start, np.zeros(0, np.int64), context, items, fields)
        (logits,) = self._engine.score_many([slate])
        if not isinstance(logits, ScoreError) and logits.shape != items.shape:
            raise ArtifactError(f"score: got logits of {logits.shape}, expected {items.shape}")
        probabilities(logits, self._calibrated)

    def _result(
        self, slate: Slate, rows: EngineSlate, logits: Logits | ScoreError
    ) -> Scored | Exception:
        try:
            scores = probabilities(logits, self._calibrated)
        except ScoreError as error:
            return error
        finally:
            slate.ended["score"] = perf_counter()
        unknown = [slate.candidates[at] for at in np.flatnonzero(rows.items == UNKNOWN).tolist()]
        unknown_fields = _unknown_fields(self._last_listed, slate.candidate_fields, rows.fields)
        return Scored(scores, unknown, self._new_items(slate, rows), unknown_fields)

    def _new_items(self, slate: Slate, rows: EngineSlate) -> list[str]:
        if not self._has_known_new:
            return []
        places = np.flatnonzero(rows.items >= self._first_prototype).tolist()
        return [slate.candidates[at] for at in places]


def _unknown_fields(listed: Mapping[str, int], values: CandidateFields, ids: Ids) -> UnknownFields:
    """Values of each field that are unknown or missing, each once, in the order of the candidates.

    Args:
        listed: field -> highest id of such values.
        values: raw values.
        ids: dense ids, [num candidates, num candidate fields].
    """
    unknown: UnknownFields = {}
    for column, (name, last) in enumerate(listed.items()):
        places = np.flatnonzero(ids[:, column] <= last).tolist()
        if places:
            raw = values.get(name)
            unknown[name] = [None] if raw is None else list(dict.fromkeys(raw[at] for at in places))
    return unknown


def _prepare(
    artifact: Artifact, num_threads: int, engine: str, on_fallback: OnFallback
) -> tuple[State, Choice]:
    """Cold-start state and engine. The encode graph is freed when this returns."""
    encoder = Encoder(artifact, num_threads)
    cold_start = encoder.cold_start()
    return cold_start, choose(engine, artifact, encoder, num_threads, on_fallback)


def probabilities(logits: Logits | ScoreError, calibration: Calibration | None) -> Probabilities:
    """Probabilities of the logits of one slate.

    Raises:
        ScoreError: the engine gave this error, or a logit that is not finite.
    """
    if isinstance(logits, ScoreError):
        raise logits
    # Few passes, in place: for some hundred candidates each pass costs more than its arithmetic.
    log_odds: NDArray[Any] = logits
    if calibration is not None:
        log_odds = calibration.log_odds(logits.astype(np.float64))
    x: Probabilities = np.negative(log_odds, dtype=np.float64)
    if not np.isfinite(x).all():  # not the sum, which warns of inf - inf
        raise ScoreError("the graph gave a score that is not finite")
    np.minimum(x, MAX_EXPONENT, out=x)
    np.exp(x, out=x)
    x += 1.0
    # 1 / (1 + exp(-logit)) is accurate everywhere: where exp is huge, the result is its inverse.
    return np.reciprocal(x, out=x)


@contextmanager
def _artifact_errors(path: Path) -> Iterator[None]:
    """Turn every exception of an engine into an ArtifactError that names the artifact."""
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        raise ArtifactError(f"artifact: {path} cannot score: {error}") from error
