"""Counters and histograms of the event loop: plain numbers, which become metrics at a scrape.

prometheus_client's own take a lock for each number that changes: 25 µs for one request, these 5.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

Labels = tuple[str, ...]


class CounterTable(Collector):
    """A counter for each combination of label values. Changed by one thread, read by any."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        """Register the metric, without a counter yet.

        Args:
            name: name of the metric, without `_total`.
            text: help text.
            labels: names of the labels.
            registry: registry of this process.
        """
        self._name, self._text, self._labels = name, text, labels
        self._values: dict[Labels, float] = {}
        self._created_s: dict[Labels, float] = {}
        registry.register(self)

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Add to the counter with these label values, which begins at 0."""
        try:
            self._values[labels] += amount
        except KeyError:
            self._created_s[labels] = time.time()
            self._values[labels] = amount

    def collect(self) -> Iterator[Metric]:
        """The current values."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, value, created=self._created_s[labels])
        yield family


class HistogramTable(Collector):
    """A histogram for each combination of label values. Changed by one thread, read by any."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """Register the metric, without a histogram yet.

        Args:
            name: name of the metric.
            text: help text.
            labels: names of the labels.
            buckets: upper bounds, ascending; infinity is added.
            registry: registry of this process.
        """
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._bounds = tuple(buckets)
        self._names = [*(str(float(bound)) for bound in buckets), "+Inf"]
        # Label values -> number of values in each bucket, and their sum at the end.
        self._rows: dict[Labels, list[float]] = {}
        self._created_s: dict[Labels, float] = {}
        registry.register(self)

    def observe(self, labels: Labels, value: float) -> None:
        """Add a value to the histogram with these label values."""
        row = self._rows.get(labels)
        if row is None:
            self._created_s[labels] = time.time()
            row = self._rows[labels] = [0] * (len(self._names) + 1)
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def collect(self) -> Iterator[Metric]:
        """The current values."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, row in list(self._rows.items()):
            *counts, total = row.copy()
            family.add_metric(labels, self._cumulated(counts), total)
            named = dict(zip(self._labels, labels, strict=True))
            family.samples.append(Sample(f"{self._name}_created", named, self._created_s[labels]))
        yield family

    def _cumulated(self, counts: Sequence[float]) -> list[tuple[str, float]]:
        number = 0.0
        cumulated = []
        for name, count in zip(self._names, counts, strict=True):
            number += count
            cumulated.append((name, number))
        return cumulated
