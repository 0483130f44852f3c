"""Reference of the metrics, read from the calls that make them in `service/`."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.generate.markdown import code, table

SERVICE = Path(__file__).parents[2] / "service"
TYPES = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "Summary": "summary",
    "Info": "info",
    "GaugeMetricFamily": "gauge",
    "CounterMetricFamily": "counter",
    "HistogramMetricFamily": "histogram",
    "CounterTable": "counter",
    "HistogramTable": "histogram",
}
INTRODUCTION = """# Metrics

`GET /metrics` answers in Prometheus text, or in OpenMetrics where the client asks for it. With several
processes, scrape each on its own port. A histogram adds `_bucket`, `_sum` and `_count` to its name. Alerts with
what to do are in `docker/prometheus/alerts.yml`, a dashboard in `docker/grafana/dashboard.json`.

`absorb_worker_*` are metrics of `absorb follow`: each worker answers on `ABSORB_FOLLOW_METRICS_PORT`.

prometheus_client's own metrics (`process_*`, `python_*`) are there as well.

This page is generated from the code.

"""


@dataclass(frozen=True)
class MetricFamily:
    """One metric as the code declares it.

    Attributes:
        name: as it is exported; a counter ends in `_total`.
        kind: Prometheus type.
        labels: names of its labels.
        text: help text.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def metric_families() -> list[MetricFamily]:
    """Every metric of the service, by name."""
    paths = sorted(SERVICE.rglob("*.py"))
    found = [family for path in paths for family in _families_in(ast.parse(path.read_text()))]
    return sorted(found, key=lambda family: family.name)


def _families_in(tree: ast.Module) -> Iterator[MetricFamily]:
    assigned = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            texts = [text for given in node.args[:2] for text in _texts(given, assigned)]
            if called in TYPES and len(texts) == 2 and texts[0].startswith("absorb_"):
                suffix = "_total" if TYPES[called] == "counter" else ""
                name = texts[0].removesuffix("_total") + suffix
                yield MetricFamily(name, TYPES[called], _labels(node, assigned), texts[1])


def _labels(call: ast.Call, assigned: dict[str, ast.expr]) -> tuple[str, ...]:
    given = [word.value for word in call.keywords if word.arg in ("labels", "labelnames")]
    return tuple(text for node in [*call.args[2:3], *given] for text in _texts(node, assigned))


def _texts(node: ast.expr, assigned: dict[str, ast.expr]) -> list[str]:
    """The strings of an expression: a literal, a list of them, or a name in the same file that holds either."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.List | ast.Tuple):
        return [text for element in node.elts for text in _texts(element, assigned)]
    if isinstance(node, ast.Starred):
        return _texts(node.value, assigned)
    if isinstance(node, ast.Name) and node.id in assigned:
        return _texts(assigned[node.id], {})
    return []


def page() -> str:
    """The page, as Markdown."""
    rows = [
        (code(family.name), family.kind, ", ".join(map(code, family.labels)), family.text)
        for family in metric_families()
    ]
    return INTRODUCTION + table(["metric", "type", "labels", "meaning"], rows)
