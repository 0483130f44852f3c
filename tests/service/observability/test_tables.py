"""Tables export what prometheus_client's own counters and histograms do."""

import re

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from service.observability.tables import CounterTable, HistogramTable

BUCKETS = (0.5, 1, 2.5)
VALUES = [0.5, 0.50001, 0, 7, 2.5, 1e-9, -1.0]


@pytest.mark.parametrize("text_of", [generate_latest, openmetrics.generate_latest])
def test_tables_export_what_counters_and_histograms_do(text_of):
    expected, got = CollectorRegistry(), CollectorRegistry()
    counter = Counter("absorb_things", "Things.", ["kind", "code"], registry=expected)
    histogram = Histogram("absorb_s", "Seconds.", ["kind"], buckets=BUCKETS, registry=expected)
    counters = CounterTable("absorb_things", "Things.", ["kind", "code"], registry=got)
    histograms = HistogramTable("absorb_s", "Seconds.", ["kind"], buckets=BUCKETS, registry=got)
    assert text_of(got) == text_of(expected)
    for labels, amount in ((("b", "1"), 1), (("a", '"\n'), 0), (("b", "1"), 2.5)):
        counter.labels(*labels).inc(amount)
        counters.add(labels, amount)
    for kind in ("x", "y"):
        for value in VALUES:
            histogram.labels(kind).observe(value)
            histograms.observe((kind,), value)
    moment = re.compile(rb"(_created\{.*?\}) \S+")
    assert moment.sub(rb"\1", text_of(got)) == moment.sub(rb"\1", text_of(expected))
    assert len(moment.findall(text_of(got))) == 4
