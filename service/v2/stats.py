"""Statistics of the V2 protocol, over HTTP and gRPC, in Triton's form."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.query import Scores
from service.v2.messages import Duration, ModelStatistics

STAGES: Mapping[str, tuple[str, ...]] = {
    "queue": ("queue",),
    "compute_input": ("cache", "decode"),
    "compute_infer": ("score",),
}
"""Stage of Triton -> the stages of this service that it sums up."""
DURATIONS = ("success", "fail", *STAGES, "compute_output", "cache_hit", "cache_miss")
KEPT_VERSIONS = 2
"""Versions of each model whose counts are kept: memory must not grow with every publish."""


@dataclass
class _Counts:
    last_inference_ms: int = 0
    inference_count: int = 0
    durations: dict[str, Duration] = field(
        default_factory=lambda: dict.fromkeys(DURATIONS, Duration())
    )

    def add(self, duration: str, ns: int) -> None:
        before = self.durations[duration]
        self.durations[duration] = Duration(before.count + 1, before.ns + ns)


class Statistics:
    """Counts requests by model and version. Used on the event loop only."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, dict[str, _Counts]] = defaultdict(dict)

    def _of(self, model: str, version: str) -> _Counts:
        versions = self._counts[model]
        counts = versions.setdefault(version, _Counts())
        while len(versions) > KEPT_VERSIONS:
            versions.pop(next(iter(versions)))
        return counts

    def succeeded(
        self, model: str, version: str, answers: Sequence[Scores], now_s: float, took_ns: int
    ) -> None:
        """Count an answered request.

        Args:
            model: name of the model.
            version: that scored.
            answers: one for each user of the request.
            now_s: epoch second.
            took_ns: duration of the request in nanoseconds.
        """
        counts = self._of(model, version)
        counts.last_inference_ms = int(1000 * now_s)
        counts.inference_count += len(answers)
        counts.add("success", took_ns)
        stages = [answer.stages for answer in answers]
        staged_ns = 0
        for name, parts in STAGES.items():
            seconds = (timings.get(part, 0.0) for timings in stages for part in parts)
            stage_ns = int(1e9 * sum(seconds))
            counts.add(name, stage_ns)
            staged_ns += stage_ns
        counts.add("compute_output", max(took_ns - staged_ns, 0))

    def failed(self, model: str, version: str, took_ns: int) -> None:
        """Count a request to a known model that failed."""
        self._of(model, version).add("fail", took_ns)

    def of(self, model: str, version: str) -> ModelStatistics:
        """Statistics of one version of a model."""
        counts = self._counts[model].get(version, _Counts())
        return ModelStatistics(
            model,
            version,
            counts.last_inference_ms,
            counts.inference_count,
            counts.durations["success"].count,
            dict(counts.durations),
        )
