"""Metrics of experiments and shadows. Shadows' lookups have counters of their own: no answer needed them."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.experiments.ranking import Agreement

DIFFERENCES = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DISTANCES = (0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
OVERLAPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
PAIR = ("model", "shadow")


class TrafficMetrics:
    """What experiments and shadows did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._assigned = Counter(
            "absorb_split_requests",
            "Requests of an experiment, by the model that their user has.",
            ["experiment", "model"],
            registry=registry,
        )
        self._fallbacks = Counter(
            "absorb_split_fallbacks",
            "Those that the default model scored: theirs did not serve.",
            ["experiment", "model"],
            registry=registry,
        )
        self._shadows = Counter(
            "absorb_shadow_requests",
            "Requests drawn for a shadow: compared, dropped or failed.",
            [*PAIR, "result"],
            registry=registry,
        )
        self._results = Counter(
            "absorb_shadow_cache_results",
            "Lookups of shadows by result; in no other counter.",
            ["model", "result"],
            registry=registry,
        )
        self._difference = Histogram(
            "absorb_shadow_score_difference",
            "Mean absolute difference of a request's scores.",
            PAIR,
            buckets=DIFFERENCES,
            registry=registry,
        )
        # Not tau itself: prometheus_client gives no sum, so no mean, of what may be negative.
        self._distance = Histogram(
            "absorb_shadow_kendall_distance",
            "(1 - tau-b) / 2: 0 where rankings agree, 1 reversed.",
            PAIR,
            buckets=DISTANCES,
            registry=registry,
        )
        self._overlap = Histogram(
            "absorb_shadow_top_overlap",
            "Share of the best 10 that the two have in common.",
            PAIR,
            buckets=OVERLAPS,
            registry=registry,
        )

    def assigned(self, experiment: str, model: str) -> None:
        """Count a request that an experiment gave to a model."""
        self._assigned.labels(experiment, model).inc()

    def fell_back(self, experiment: str, model: str) -> None:
        """Count one whose model does not serve."""
        self._fallbacks.labels(experiment, model).inc()

    def shadowed(self, model: str, shadow: str, result: str) -> None:
        """Count how a request that was drawn for a shadow ended."""
        self._shadows.labels(model, shadow, result).inc()

    def looked_up(self, shadow: str, source: str) -> None:
        """Count a shadow's own lookup."""
        self._results.labels(shadow, source).inc()

    def compared(self, model: str, shadow: str, difference: float, agreement: Agreement) -> None:
        """Note how far two models' scores of one request agree."""
        self._difference.labels(model, shadow).observe(difference)
        self._overlap.labels(model, shadow).observe(agreement.overlap)
        if agreement.kendall_tau is not None:
            self._distance.labels(model, shadow).observe((1 - agreement.kendall_tau) / 2)
