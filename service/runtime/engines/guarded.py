"""An engine whose failures ONNX Runtime answers for."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from service.errors import ScoreError
from service.runtime.engines.engine import Engine, EngineSlate, Logits

FallbackReason = Literal["error", "not finite", "limits"]
"""Why ONNX Runtime scored a slate: the engine failed; its logits were not finite, or not one for each candidate; the
slate is beyond its limits."""

log = logging.getLogger(__name__)


class GuardedEngine:
    """Scores with one engine, and with ONNX Runtime each slate that the engine cannot score.

    ONNX Runtime's session is opened for the first such slate, and kept: until then its weights, which are in the
    engine's plan as well, take no memory.
    """

    def __init__(
        self,
        engine: Engine,
        open_onnxruntime: Callable[[], Engine],
        on_fallback: Callable[[FallbackReason], None],
    ) -> None:
        """Open nothing yet.

        Args:
            engine: has passed `check_engine`.
            open_onnxruntime: opens a session of the artifact's score graph.
            on_fallback: called for each slate that ONNX Runtime scores.
        """
        self._engine = engine
        self._open_onnxruntime = open_onnxruntime
        self._on_fallback = on_fallback
        self._onnxruntime: Engine | None = None
        self._lock = threading.Lock()
        self._logged: set[FallbackReason] = set()
        self.name = engine.name
        self.device = engine.device
        self.limits = engine.limits
        self.memory = engine.memory

    def score_many(self, slates: Sequence[EngineSlate]) -> list[Logits | ScoreError]:
        """Logits of each slate, from the engine or from ONNX Runtime, or ONNX Runtime's error."""
        most = self.limits.slates or len(slates)
        calls = [slates[begin : begin + most] for begin in range(0, len(slates), most)]
        return [result for call in calls for result in self._call(call)]

    def close(self) -> None:
        """Free both engines."""
        self._engine.close()
        if self._onnxruntime is not None:
            self._onnxruntime.close()

    def _call(self, slates: Sequence[EngineSlate]) -> list[Logits | ScoreError]:
        longest = self.limits.candidates
        if longest is not None and any(len(slate.items) > longest for slate in slates):
            return [self._within_limits(slate, longest) for slate in slates]
        try:
            results: Sequence[Logits | ScoreError] = self._engine.score_many(slates)
        except Exception as error:  # whatever a library raises
            return [self._fall_back(slate, "error", error) for slate in slates]
        return [self._checked(*pair) for pair in zip(slates, results, strict=True)]

    def _within_limits(self, slate: EngineSlate, longest: int) -> Logits | ScoreError:
        if len(slate.items) > longest:
            return self._fall_back(slate, "limits", None)
        return self._call([slate])[0]

    def _checked(self, slate: EngineSlate, result: Logits | ScoreError) -> Logits | ScoreError:
        if isinstance(result, ScoreError):
            return self._fall_back(slate, "error", result)
        if result.shape != slate.items.shape or not np.isfinite(result).all():
            return self._fall_back(slate, "not finite", None)
        return result

    def _fall_back(
        self, slate: EngineSlate, reason: FallbackReason, error: Exception | None
    ) -> Logits | ScoreError:
        self._on_fallback(reason)
        if reason not in self._logged:
            self._logged.add(reason)
            fields = {"engine": self.name, "reason": reason}
            log.warning(
                "ONNX Runtime scores what the engine cannot; this line is logged once",
                extra=fields,
                exc_info=error,
            )
        try:
            return self._opened().score_many([slate])[0]
        except Exception as failure:  # ONNX Runtime's errors have no base class of their own
            problem = ScoreError("the graph failed, as the log says,")
            problem.__cause__ = failure
            return problem

    def _opened(self) -> Engine:
        with self._lock:
            if self._onnxruntime is None:
                self._onnxruntime = self._open_onnxruntime()
            return self._onnxruntime
