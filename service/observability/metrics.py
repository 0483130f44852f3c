"""Counters, histograms, stage timings and the log format. The metrics' registry is handed in."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from platform import python_version
from typing import Generic, Literal, TypeVar

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.contract.generation import Generation
from models.contract.version import package_version
from service.observability.request_context import CURRENT

StateSource = Literal["hit", "miss", "stale", "corrupt", "unavailable"]
"""How a user's state was found. All but hit and stale are scored from the cold-start state."""

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
CANDIDATES = (1, 10, 50, 100, 200, 500, 1000, 2000, 5000)
FROM_A_RECORD = frozenset({"hit", "stale"})
"""Sources whose scores do not start from the default: the cold-start state."""
STAGE_NAMES = {"score": "compute"}
"""Stages that the metrics, after everybody's convention, call otherwise than the answers do."""
STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",
}


class Telemetry:
    """Every metric of the service. Labels hold model names and routes, never user ids."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        """Register everything.

        Args:
            registry: of one process; several processes need prometheus_client's multiprocess mode.
            clock: gives the epoch second, for the generations' ages.
        """
        self.registry = registry
        self._requests = Children(
            Counter(
                "absorb_requests",
                "Answers sent; model is empty where none was picked.",
                ["route", "method", "model", "code"],
                registry=registry,
            )
        )
        self._request_seconds = Children(
            Histogram(
                "absorb_request_duration_seconds",
                "Time from request to answer.",
                ["route"],
                buckets=SECONDS,
                registry=registry,
            )
        )
        self._stage_seconds = Children(
            Histogram(
                "absorb_stage_duration_seconds",
                "Time of one stage of a score request.",
                ["model", "stage"],
                buckets=SECONDS,
                registry=registry,
            )
        )
        self._candidates = Children(
            Histogram(
                "absorb_candidates",
                "Candidates of a score request.",
                ["model"],
                buckets=CANDIDATES,
                registry=registry,
            )
        )
        self._unknown_candidates = Children(
            Counter(
                "absorb_unknown_candidates",
                "Candidates that the catalogue does not hold.",
                ["model"],
                registry=registry,
            )
        )
        self._lookups = Children(
            Counter(
                "absorb_cache_lookups",
                "Users looked up to be scored.",
                ["model"],
                registry=registry,
            )
        )
        self._results = Children(
            Counter(
                "absorb_cache_results",
                "Lookups by result; they add up to absorb_cache_lookups_total.",
                ["model", "result"],
                registry=registry,
            )
        )
        self._compare_failures = Counter(
            "absorb_compare_failures",
            "Models that failed while others were compared, by error.",
            ["model", "error"],
            registry=registry,
        )
        self._defaults = Counter(
            "absorb_defaults",
            "Scores from the cold-start state, by why there was no record.",
            ["model", "reason"],
            registry=registry,
        )
        self.poll_failures = Counter(
            "absorb_poll_failures",
            "Looks at the generation pointers that failed.",
            registry=registry,
        )
        self._add_overload_metrics(registry)
        self._add_generation_metrics(registry)
        self._add_facts(registry, clock)

    def _add_overload_metrics(self, registry: CollectorRegistry) -> None:
        self.in_flight = Gauge(
            "absorb_in_flight", "Score requests that are being answered.", registry=registry
        )
        self.ready = Gauge(
            "absorb_ready", "Whether this process should get requests: 1 or 0.", registry=registry
        )
        self.queue_depth = Gauge(
            "absorb_queue_depth", "Score requests that wait for a place.", registry=registry
        )
        self._rejected = Counter(
            "absorb_rejected",
            "Score requests that were sent away, by reason.",
            ["reason"],
            registry=registry,
        )

    def _add_generation_metrics(self, registry: CollectorRegistry) -> None:
        self._created_s: dict[str, int] = {}
        self._load_failures = Counter(
            "absorb_load_failures",
            "Generations that could not be loaded, by error.",
            ["model", "error"],
            registry=registry,
        )
        self._swaps = Counter(
            "absorb_swaps", "Generations that began to serve.", ["model"], registry=registry
        )
        about = ["model", "generation", "artifact_id"]
        self._generation = Gauge(
            "absorb_generation_info", "The generation that serves: 1.", about, registry=registry
        )
        self._as_of = Gauge(
            "absorb_generation_as_of_timestamp_seconds",
            "Up to when events are in the states.",
            ["model"],
            registry=registry,
        )
        self._users = Gauge(
            "absorb_generation_users",
            "Users that the generation holds.",
            ["model"],
            registry=registry,
        )

    def _add_facts(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self.batch_size = Histogram(
            "absorb_batch_size",
            "Requests in one run of the score graph, where they are joined.",
            buckets=BATCHES,
            registry=registry,
        )
        registry.register(GenerationAges(self._created_s, clock))
        build = Gauge(
            "absorb_build_info", "This program: 1.", ["version", "python"], registry=registry
        )
        build.labels(package_version(), python_version()).set(1)

    def looked_up(self, model: str, source: StateSource) -> None:
        """Count one lookup and its result, together: the results always add up to the lookups."""
        self._lookups(model).inc()
        self._results(model, source).inc()
        if source not in FROM_A_RECORD:
            self._defaults.labels(model, source).inc()

    def scored(
        self, model: str, num_candidates: int, num_unknown: int, stage_seconds: Mapping[str, float]
    ) -> None:
        """Count one answered score request."""
        self._candidates(model).observe(num_candidates)
        self._unknown_candidates(model).inc(num_unknown)
        for stage, took_s in stage_seconds.items():
            self.staged(model, STAGE_NAMES.get(stage, stage), took_s)

    def staged(self, model: str, stage: str, took_s: float) -> None:
        """Note what one stage of a request took."""
        self._stage_seconds(model, stage).observe(took_s)

    def answered(self, route: str, method: str, model: str, status: int, took_s: float) -> None:
        """Count one answer; every label comes from a list of ours."""
        self._requests(route, method, model, str(status)).inc()
        self._request_seconds(route).observe(took_s)

    def rejected(self, reason: str) -> None:
        """Count a request that was sent away."""
        self._rejected.labels(reason).inc()

    def compare_failed(self, model: str, error: Exception) -> None:
        """Count a model that gave an error where others gave scores."""
        self._compare_failures.labels(model, type(error).__name__).inc()

    def load_failed(self, model: str, error: Exception) -> None:
        """Count a generation that could not be loaded."""
        self._load_failures.labels(model, type(error).__name__).inc()

    def swapped(self, old: Generation | None, new: Generation) -> None:
        """Count a generation that began to serve."""
        if old is not None:
            self._generation.remove(old.model, old.name, old.artifact_id)
        self._generation.labels(new.model, new.name, new.artifact_id).set(1)
        self._created_s[new.model] = new.created_s
        self._as_of.labels(new.model).set(new.as_of_s)
        self._users.labels(new.model).set(new.num_users)
        self._swaps.labels(new.model).inc()

    def unloaded(self, generation: Generation) -> None:
        """Forget a generation that serves no longer."""
        self._generation.remove(generation.model, generation.name, generation.artifact_id)
        self._as_of.remove(generation.model)
        self._users.remove(generation.model)
        self._created_s.pop(generation.model)


Kind = TypeVar("Kind", Counter, Histogram)


class Children(Generic[Kind]):
    """A metric's children by their labels, each looked up once: prometheus_client's own way takes a lock each time."""

    def __init__(self, metric: Kind) -> None:
        self._metric: Kind = metric
        self._known: dict[tuple[str, ...], Kind] = {}

    def __call__(self, *labels: str) -> Kind:
        """The child with these labels."""
        found = self._known.get(labels)
        if found is None:
            found = self._known[labels] = self._metric.labels(*labels)
        return found


class GenerationAges(Collector):
    """Computes ages when it is asked: a gauge that is set would age only where somebody sets it."""

    def __init__(self, created_s: Mapping[str, int], clock: Callable[[], float]) -> None:
        self._created_s = created_s
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """One sample for each model."""
        name = "absorb_generation_age_seconds"
        family = GaugeMetricFamily(name, "Seconds since the builder made it.", labels=["model"])
        for model, created_s in list(self._created_s.items()):
            family.add_metric([model], self._clock() - created_s)
        yield family


def milliseconds(seconds: float) -> float:
    """To three places."""
    return round(1000 * seconds, 3)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: what is passed as `extra` becomes fields of it, and so do the request's ids."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(),
            **{k: v for k, v in vars(record).items() if k not in STANDARD_FIELDS},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def _ids() -> dict[str, str]:
    """Ids of the request that is being answered, if one is."""
    about = CURRENT.get()
    if about is None:
        return {}
    trace = {} if about.trace_id is None else {"trace_id": about.trace_id}
    return {"request_id": about.request_id, **trace}


def log_as_json(level: str) -> None:
    """Log everything as JSON lines to stderr. Called once, by the process that owns it."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
