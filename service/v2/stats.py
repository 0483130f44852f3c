"""What the V2 doors have served, in the form in which Triton tells it."""

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
"""What Triton calls a stage -> what it is made of here."""
DURATIONS = ("success", "fail", *STAGES, "compute_output", "cache_hit", "cache_miss")
KEPT_VERSIONS = 2
"""Of each model: a service that follows a publish every few seconds must not grow."""


@dataclass
class _Counts:
    last_inference_ms: int = 0
    inference_count: int = 0
    durations: dict[str, Duration] = field(
        default_factory=lambda: dict.fromkeys(DURATIONS, Duration())
    )

    def add(self, duration: str, ns: int) -> None:
        so_far = self.durations[duration]
        self.durations[duration] = Duration(so_far.count + 1, so_far.ns + ns)


class Statistics:
    """Counts by model and version. Used by the event loop only."""

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
        """Count a request that was answered."""
        counts = self._of(model, version)
        counts.last_inference_ms = int(1000 * now_s)
        counts.inference_count += len(answers)
        counts.add("success", took_ns)
        staged_ns = 0
        for name, parts in STAGES.items():
            seconds = (one.stages.seconds.get(part, 0.0) for one in answers for part in parts)
            stage_ns = int(1e9 * sum(seconds))
            counts.add(name, stage_ns)
            staged_ns += stage_ns
        counts.add("compute_output", max(took_ns - staged_ns, 0))

    def failed(self, model: str, version: str, took_ns: int) -> None:
        """Count a request to a known model that was not."""
        self._of(model, version).add("fail", took_ns)

    def of(self, model: str, version: str) -> ModelStatistics:
        """What one version of a model has done."""
        counts = self._counts[model].get(version, _Counts())
        return ModelStatistics(
            model,
            version,
            counts.last_inference_ms,
            counts.inference_count,
            counts.durations["success"].count,
            dict(counts.durations),
        )
