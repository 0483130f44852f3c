"""Checks that the service's own counters add up."""

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families

PAIRS = (
    ("absorb_cache_lookups_total", "absorb_cache_results_total", "model"),
    ("absorb_cache_tier_lookups_total", "absorb_cache_tier_results_total", "tier"),
)
"""Counter of lookups, counter of their results, and the label for each value of which both must be equal."""


def problems_of(text: str) -> list[str]:
    """Counters of a scrape that do not add up: each model and tier must have as many results as lookups."""
    problems = []
    for lookups_name, results_name, label in PAIRS:
        lookups, results = _by(text, lookups_name, label), _by(text, results_name, label)
        if not lookups:
            problems.append(f"counters: no {lookups_name}")
        problems += [
            f"counters of {name}: results come to {results[name]:g}, lookups to {count:g}"
            for name, count in lookups.items()
            if results[name] != count
        ]
    return problems


def results_of(text: str, model: str) -> dict[str, float]:
    """Result -> number of a model's lookups with it, from a scrape; 0 for a result that the scrape does not have."""
    results: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == PAIRS[0][1] and sample.labels["model"] == model:
                results[sample.labels["result"]] += sample.value
    return results


def _by(text: str, name: str, label: str) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                sums[sample.labels[label]] += sample.value
    return sums
