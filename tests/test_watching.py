"""The dashboard and the alerts name metrics and labels that exist, and every alert says what to do."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from service.app import create_app
from service.follow.metrics import WorkerMetrics
from service.observability.tables import CounterTable, HistogramTable
from service.settings import Settings
from service.wiring import build_dependencies

DOCKER = Path(__file__).parent.parent / "docker"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DOCKER / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana/dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [rule["expr"] for rule in ALERTS] + [
    target["expr"] for panel in PANELS for target in panel["targets"]
]
OF_PROMETHEUS = {"le", "instance", "job"}
"""Labels that it adds itself."""
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
METRIC = re.compile(r"\b((?:absorb|process|python)_\w+)(?:\{([^}]*)})?")


@pytest.fixture(scope="module")
def metrics() -> dict[str, set[str]]:
    """Name of every sample that a service may give -> its labels."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    dependencies = build_dependencies(Settings(), "redis://127.0.0.1:1", registry, lambda: 0.0)
    create_app(dependencies)
    WorkerMetrics(registry)
    found: dict[str, set[str]] = {
        family.name + suffix: set().union(*(sample.labels for sample in family.samples))
        for family in registry.collect()
        for suffix in SUFFIXES[family.type]
    } | {"absorb_generation_age_seconds": {"model"}, "absorb_follow_behind_users": {"model"}}
    for metric in registry._collector_to_names:
        if isinstance(metric, MetricWrapperBase):
            for family in metric.describe():
                names = [family.name + suffix for suffix in SUFFIXES[family.type]]
                found |= {name: set(metric._labelnames) for name in names}
        if isinstance(metric, CounterTable | HistogramTable):
            for family in metric.collect():
                names = [family.name + suffix for suffix in SUFFIXES[family.type]]
                found |= {name: set(metric._labels) for name in names}
    dependencies.workers.shutdown()
    dependencies.follower.close()
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_name_metrics_and_labels_that_exist(
    metrics: dict[str, set[str]], expression: str
):
    named = METRIC.findall(expression)
    assert named or expression.startswith("up{")
    assert expression.count("(") == expression.count(")")
    known = OF_PROMETHEUS.union(*(metrics[name] for name, _ in named))
    for name, selector in named:
        chosen = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert chosen <= metrics[name] | OF_PROMETHEUS, name
    for grouping in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", grouping)) <= known


def test_every_series_of_the_dashboard_can_be_told_apart(metrics: dict[str, set[str]]):
    for panel in PANELS:
        for target in panel["targets"]:
            labels = OF_PROMETHEUS.union(
                *(metrics[name] for name, _ in METRIC.findall(target["expr"]))
            )
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, panel["title"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_long_how_bad_what_and_what_to_do(rule: dict[str, Any]):
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"]
    assert len(rule["annotations"]["runbook"]) > 60


def test_what_goes_wrong_has_an_alert():
    named = {rule["alert"] for rule in ALERTS}
    assert len(named) == len(ALERTS)
    assert named >= {
        "AbsorbNotReady", "AbsorbSlow", "AbsorbErrors", "AbsorbDegraded", "AbsorbCacheErrors",
        "AbsorbDeadLetters", "AbsorbGenerationOld", "AbsorbRejecting", "AbsorbShadowDiverges", "AbsorbPollFails",
    }  # fmt: skip


def test_panels_do_not_overlap_and_know_their_source():
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & places, panel["title"]
        assert max(x for x, _ in cells) < 24
        places |= cells
    source = yaml.safe_load((DOCKER / "grafana/datasources/prometheus.yml").read_text())
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["datasources"][0]["uid"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_reads_the_alerts_and_the_services_metrics():
    config = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())
    assert all((DOCKER / "prometheus" / name).is_file() for name in config["rule_files"])
    job, workers = config["scrape_configs"]
    assert job["job_name"] == "absorb"  # as the alerts have it
    assert job["static_configs"][0]["targets"] == ["service:8000"]
    follow = yaml.safe_load((DOCKER.parent / "docker-compose.yml").read_text())["services"][
        "follow"
    ]
    (found,) = workers["dns_sd_configs"]
    assert found["names"] == ["follow", "follow-kafka"]
    assert str(found["port"]) == follow["environment"]["ABSORB_FOLLOW_METRICS_PORT"]
    assert "default" in follow["networks"]
