"""The service's own counters: whether they add up."""

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families

LOOKUPS = "absorb_cache_lookups_total"
RESULTS = "absorb_cache_results_total"


def problems_of(text: str) -> list[str]:
    """What does not add up in a scrape: for every model, results must come to the lookups."""
    lookups, results = _by_model(text, LOOKUPS), _by_model(text, RESULTS)
    if not lookups:
        return ["counters: no lookup was counted"]
    return [
        f"counters of {model}: results come to {results[model]:g}, lookups to {count:g}"
        for model, count in lookups.items()
        if results[model] != count
    ]


def _by_model(text: str, name: str) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                found[sample.labels["model"]] += sample.value
    return found
