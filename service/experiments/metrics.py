"""Metrics of experiments and shadows. Lookups of shadows have their own counter, since no answer needed them."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.experiments.ranking import Agreement

DIFFERENCES = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DISTANCES = (0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
OVERLAPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
PAIR = ("model", "shadow")


class TrafficMetrics:
    """Metrics of experiments and shadows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._assigned = Counter(
            "absorb_split_requests",
            "Requests of an experiment, by the model assigned to the user.",
            ["experiment", "model"],
            registry=registry,
        )
        self._fallbacks = Counter(
            "absorb_split_fallbacks",
            "Requests scored by the default model because the assigned model did not serve.",
            ["experiment", "model"],
            registry=registry,
        )
        self._shadows = Counter(
            "absorb_shadow_requests",
            "Requests sampled for a shadow, by result: compared, dropped or failed.",
            [*PAIR, "result"],
            registry=registry,
        )
        self._results = Counter(
            "absorb_shadow_cache_results",
            "User lookups of shadows, by result; not part of absorb_cache_results.",
            ["model", "result"],
            registry=registry,
        )
        self._difference = Histogram(
            "absorb_shadow_score_difference",
            "Mean absolute difference between the scores of model and shadow in a request.",
            PAIR,
            buckets=DIFFERENCES,
            registry=registry,
        )
        # Not tau itself: a histogram of negative values has no sum, so no mean.
        self._distance = Histogram(
            "absorb_shadow_kendall_distance",
            "(1 - tau-b) / 2: 0 for equal rankings, 1 for reversed rankings.",
            PAIR,
            buckets=DISTANCES,
            registry=registry,
        )
        self._overlap = Histogram(
            "absorb_shadow_top_overlap",
            "Expected share of the top 10 that model and shadow have in common, ties broken at random.",
            PAIR,
            buckets=OVERLAPS,
            registry=registry,
        )

    def assigned(self, experiment: str, model: str) -> None:
        """Count a request that an experiment assigned to a model."""
        self._assigned.labels(experiment, model).inc()

    def fell_back(self, experiment: str, model: str) -> None:
        """Count a request whose assigned model does not serve."""
        self._fallbacks.labels(experiment, model).inc()

    def shadowed(self, model: str, shadow: str, result: str) -> None:
        """Count a request that was sampled for a shadow, by result."""
        self._shadows.labels(model, shadow, result).inc()

    def looked_up(self, shadow: str, source: str) -> None:
        """Count a shadow's own lookup of the user."""
        self._results.labels(shadow, source).inc()

    def compared(self, model: str, shadow: str, difference: float, agreement: Agreement) -> None:
        """Record how far model and shadow agree on one request."""
        self._difference.labels(model, shadow).observe(difference)
        self._overlap.labels(model, shadow).observe(agreement.overlap)
        if agreement.kendall_tau is not None:
            self._distance.labels(model, shadow).observe((1 - agreement.kendall_tau) / 2)
