"""The hostile records of the chaos run, and a short real run with them."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from loadtest.chaos.counters import results_of
from loadtest.chaos.expected import Graphs
from loadtest.chaos.faults.record import CORRUPT, RECORD_FAULTS, hostile_records
from loadtest.chaos.fixtures import Fixtures, make_fixtures
from loadtest.chaos.runner import run_scenario
from loadtest.chaos.verdict import conclude
from models.contract.errors import CorruptRecordError
from models.contract.record import decode_record
from tests.service.toy import Toy


@pytest.fixture
def fixtures(tmp_path: Path) -> Fixtures:
    return make_fixtures([Toy(seed).save(tmp_path / "artifacts") for seed in (1, 2)])


def test_all_but_the_huge_record_are_refused_when_they_are_read(fixtures: Fixtures) -> None:
    artifact = fixtures.artifacts[0]
    spec, recent = artifact.manifest.state_spec, artifact.manifest.schema.recent_length
    *refused, huge = hostile_records(fixtures.records[0]["user-3"], artifact)
    reasons = []
    for raw in refused:
        with pytest.raises(CorruptRecordError) as caught:
            decode_record(raw, spec, artifact.artifact_id, "user-3", recent)
        reasons.append(str(caught.value))
    state = dict(decode_record(huge, spec, artifact.artifact_id, "user-3").state)
    with np.errstate(all="ignore"):
        scores = Graphs(artifact).scores(state, np.zeros(0, np.int64), fixtures.queries[0].body)
    assert all("not finite" in reason for reason in reasons[:3])
    assert "5000 rows" in reasons[3]
    assert not np.isfinite(scores).all()


def test_hostile_records_under_load_break_no_rule(fixtures: Fixtures, tmp_path: Path) -> None:
    (scenario,) = RECORD_FAULTS

    evidence = asyncio.run(
        run_scenario(scenario, fixtures, tmp_path / "run", is_quick=True, settings={})
    )

    figures = conclude(evidence)
    assert figures.broken == []
    assert set(figures.codes) == {"200"}
    assert {"hit", *CORRUPT} <= set(figures.sources)


def test_results_are_those_of_one_model() -> None:
    text = (
        "# TYPE absorb_cache_results counter\n"
        'absorb_cache_results_total{model="m",result="corrupt"} 3.0\n'
        'absorb_cache_results_total{model="n",result="corrupt"} 5.0\n'
    )
    assert (results_of(text, "m")["corrupt"], results_of(text, "m")["hit"]) == (3.0, 0.0)
