"""Metrics of the service for Prometheus. The registry is an argument, so that tests have their own."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from platform import python_version
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.contract.generation import Generation
from models.contract.version import package_version
from service.observability.tables import CounterTable, HistogramTable

StateSource = Literal["hit", "miss", "stale", "corrupt", "unavailable"]
"""How a user's state was found. All but hit and stale are scored from the cold-start state."""

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
CANDIDATES = (1, 10, 50, 100, 200, 500, 1000, 2000, 5000)
FROM_A_RECORD = frozenset({"hit", "stale"})
"""Sources whose scores use the user's own record; all others use the cold-start state."""
STAGE_NAMES = {"score": "compute"}
"""Stages with another name in metrics and traces than in answers."""


class Telemetry:
    """The metrics of requests, overload and generations. Labels hold model names and routes, never user ids."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        """Register every metric.

        Args:
            registry: registry of this process.
            clock: returns the epoch second; ages of generations are measured with it.
        """
        self.registry = registry
        self._add_request_metrics(registry)
        self._add_unknown_metrics(registry)
        self._add_lookup_metrics(registry)
        self._add_overload_metrics(registry)
        self._add_generation_metrics(registry)
        self._add_facts(registry, clock)

    def _add_request_metrics(self, registry: CollectorRegistry) -> None:
        self._requests = CounterTable(
            "absorb_requests",
            "Answers sent; the label model is empty if no model was chosen.",
            ["route", "method", "model", "code"],
            registry=registry,
        )
        self._request_seconds = HistogramTable(
            "absorb_request_duration_seconds",
            "Seconds from the arrival of a request to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._stage_seconds = HistogramTable(
            "absorb_stage_duration_seconds",
            "Seconds that one stage of a score request took.",
            ["model", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._candidates = HistogramTable(
            "absorb_candidates",
            "Number of candidates in a score request.",
            ["model"],
            buckets=CANDIDATES,
            registry=registry,
        )

    def _add_unknown_metrics(self, registry: CollectorRegistry) -> None:
        self._unknown_candidates = CounterTable(
            "absorb_unknown_candidates",
            "Candidates that are not in the catalogue, and are no registered new items.",
            ["model"],
            registry=registry,
        )
        self._new_candidates = CounterTable(
            "absorb_new_candidates",
            "Candidates that are not in the catalogue, and are scored by their registered item fields.",
            ["model"],
            registry=registry,
        )
        self._unknown_fields = CounterTable(
            "absorb_unknown_candidate_fields",
            "Score requests in which a value of the candidate field was missing or unknown.",
            ["model", "field"],
            registry=registry,
        )
        self._unknown_context = CounterTable(
            "absorb_unknown_context",
            "Score requests in which the value of the context field was missing or unknown.",
            ["model", "field"],
            registry=registry,
        )

    def _add_lookup_metrics(self, registry: CollectorRegistry) -> None:
        self._lookups = CounterTable(
            "absorb_cache_lookups",
            "User lookups for scoring.",
            ["model"],
            registry=registry,
        )
        self._results = CounterTable(
            "absorb_cache_results",
            "User lookups by result; the sum is absorb_cache_lookups_total.",
            ["model", "result"],
            registry=registry,
        )
        self._score_failures = Counter(
            "absorb_score_failures",
            "Score requests that failed since the cold-start state gives no finite scores: the model is broken.",
            ["model"],
            registry=registry,
        )
        self._compare_failures = Counter(
            "absorb_compare_failures",
            "Models that failed within a comparison, by error.",
            ["model", "error"],
            registry=registry,
        )
        self._defaults = Counter(
            "absorb_defaults",
            "Scores from the cold-start state, by the reason that no record was used.",
            ["model", "reason"],
            registry=registry,
        )
        self.poll_failures = Counter(
            "absorb_poll_failures",
            "Failed reads of the generation pointers.",
            registry=registry,
        )

    def _add_overload_metrics(self, registry: CollectorRegistry) -> None:
        self.in_flight = Gauge("absorb_in_flight", "Score requests in progress.", registry=registry)
        self.ready = Gauge(
            "absorb_ready", "Whether this process is ready for requests: 1 or 0.", registry=registry
        )
        self.queue_depth = Gauge(
            "absorb_queue_depth", "Score requests that wait in the queue.", registry=registry
        )
        self._rejected = Counter(
            "absorb_rejected",
            "Rejected score requests, by reason.",
            ["reason"],
            registry=registry,
        )

    def _add_generation_metrics(self, registry: CollectorRegistry) -> None:
        self._created_s: dict[str, int] = {}
        self._load_failures = Counter(
            "absorb_load_failures",
            "Failed loads of generations, by error.",
            ["model", "error"],
            registry=registry,
        )
        self._swaps = Counter(
            "absorb_swaps", "Generations that started to serve.", ["model"], registry=registry
        )
        labels = ["model", "generation", "artifact_id"]
        self._generation = Gauge(
            "absorb_generation_info",
            "The serving generation; the value is always 1.",
            labels,
            registry=registry,
        )
        self._as_of = Gauge(
            "absorb_generation_as_of_timestamp_seconds",
            "Epoch second up to which events are in the states.",
            ["model"],
            registry=registry,
        )
        self._users = Gauge(
            "absorb_generation_users",
            "Users in the serving generation.",
            ["model"],
            registry=registry,
        )

    def _add_facts(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self.batch_size = Histogram(
            "absorb_batch_size",
            "Requests joined into one run of the score graph.",
            buckets=BATCHES,
            registry=registry,
        )
        registry.register(GenerationAges(self._created_s, clock))
        build = Gauge(
            "absorb_build_info",
            "Version of the program; the value is always 1.",
            ["version", "python"],
            registry=registry,
        )
        build.labels(package_version(), python_version()).set(1)

    def looked_up(self, model: str, source: StateSource) -> None:
        """Count one lookup and its result together, so that the results always add up to the lookups."""
        self._lookups.add((model,))
        self._results.add((model, source))
        if source not in FROM_A_RECORD:
            self._defaults.labels(model, source).inc()

    def scored(
        self,
        model: str,
        num_candidates: int,
        num_unknown: int,
        num_new: int,
        unknown_fields: Iterable[str],
        unknown_context: Iterable[str],
        stage_seconds: Mapping[str, float],
    ) -> None:
        """Count one answered score request."""
        self._candidates.observe((model,), num_candidates)
        self._unknown_candidates.add((model,), num_unknown)
        if num_new:
            self._new_candidates.add((model,), num_new)
        for field in unknown_fields:
            self._unknown_fields.add((model, field))
        for field in unknown_context:
            self._unknown_context.add((model, field))
        for stage, took_s in stage_seconds.items():
            self.staged(model, STAGE_NAMES.get(stage, stage), took_s)

    def staged(self, model: str, stage: str, took_s: float) -> None:
        """Record the time of one stage of a request."""
        self._stage_seconds.observe((model, stage), took_s)

    def answered(self, route: str, method: str, model: str, status: int, took_s: float) -> None:
        """Count one answer. Label values come from the program, never from clients."""
        self._requests.add((route, method, model, str(status)))
        self._request_seconds.observe((route,), took_s)

    def rejected(self, reason: str) -> None:
        """Count a rejected request."""
        self._rejected.labels(reason).inc()

    def score_failed(self, model: str) -> None:
        """Count a score request that failed since the model is broken."""
        self._score_failures.labels(model).inc()

    def compare_failed(self, model: str, error: Exception) -> None:
        """Count a model that failed within a comparison."""
        self._compare_failures.labels(model, type(error).__name__).inc()

    def load_failed(self, model: str, error: Exception) -> None:
        """Count a generation that did not load."""
        self._load_failures.labels(model, type(error).__name__).inc()

    def swapped(self, old: Generation | None, new: Generation) -> None:
        """Count a generation that starts to serve, and export its properties."""
        if old is not None:
            self._generation.remove(old.model, old.name, old.artifact_id)
        self._generation.labels(new.model, new.name, new.artifact_id).set(1)
        self._created_s[new.model] = new.created_s
        self._as_of.labels(new.model).set(new.as_of_s)
        self._users.labels(new.model).set(new.num_users)
        self._swaps.labels(new.model).inc()

    def unloaded(self, generation: Generation) -> None:
        """Remove the metrics of a generation that no longer serves."""
        self._generation.remove(generation.model, generation.name, generation.artifact_id)
        self._as_of.remove(generation.model)
        self._users.remove(generation.model)
        self._created_s.pop(generation.model)


class GenerationAges(Collector):
    """Computes the ages of the generations at each scrape."""

    def __init__(self, created_s: Mapping[str, int], clock: Callable[[], float]) -> None:
        self._created_s = created_s
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """One sample per model."""
        name = "absorb_generation_age_seconds"
        family = GaugeMetricFamily(
            name, "Seconds since the builder created the serving generation.", labels=["model"]
        )
        for model, created_s in list(self._created_s.items()):
            family.add_metric([model], self._clock() - created_s)
        yield family


def milliseconds(seconds: float) -> float:
    """Seconds in milliseconds, rounded to three decimal places."""
    return round(1000 * seconds, 3)
