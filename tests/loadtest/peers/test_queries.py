"""Queries of a model with candidate fields: every protocol of the service gives the scores of the in-process ranker."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from loadtest.peers import driver, queries
from loadtest.peers.bare import engine_calls
from loadtest.peers.engine_call import EngineCall
from loadtest.peers.ranker import Ranker
from loadtest.peers.servers import Route
from models.contract.embedded_cache import start_server, stop_server
from service.settings import read_settings
from service.tools.published import read_published
from service.tools.running_service import running_service
from tests.service.toy import Toy
from tests.service.world import World

MODEL = "toy"
ROUTES = (
    Route("absorb", "/v1/score", "json"),
    Route("absorb-v2", f"/v2/models/{MODEL}/infer", "v2"),
    Route("absorb-v2-binary", f"/v2/models/{MODEL}/infer", "v2-binary"),
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    world = World(f"unix://{start_server(folder)}", tmp_path / "artifacts")
    monkeypatch.setenv("ABSORB_CACHE_URL", world.url)
    monkeypatch.setenv("ABSORB_ARTIFACT_DIR", str(world.artifacts))
    monkeypatch.setattr(queries, "JOB", tmp_path / "job.json")
    monkeypatch.setattr(queries, "QUERIES", tmp_path / "queries.json")
    monkeypatch.setattr(queries, "Ranker", partial(Ranker, tmp_path / "job.json"))
    yield world
    stop_server(folder)
    shutil.rmtree(folder)


def test_fields_reach_the_scores_in_every_wire_format(world: World, tmp_path: Path) -> None:
    world.publish(Toy(candidate_names=("display", "mailer")))
    published = read_published(read_settings(), None, 100)
    queries.write_job(published, world.url, world.artifacts)
    queries.write_queries(published)
    checked = [query for query in queries.read_queries()[queries.SLATES[0]] if query.scores]
    ranker = Ranker(tmp_path / "job.json")

    with running_service(tmp_path / "service.log") as url:
        port = int(url.rpartition(":")[2])
        for route in ROUTES:
            asyncio.run(driver.check(port, route, checked))

    engine = EngineCall("onnxruntime", tmp_path / "job.json")
    assert len(engine_calls(engine, checked)) == len(checked)
    wrong = replace(checked[0], scores=[1 - score for score in checked[0].scores])
    with pytest.raises(ValueError, match=f"scores of user {wrong.user_id} differ"):
        engine_calls(engine, [wrong])

    with pytest.raises(ValueError, match="engine native: "):
        EngineCall("native", tmp_path / "job.json")  # the toy has no plan

    first = checked[0]
    assert set(first.fields) == {"display", "mailer"}
    assert not (ranker.score(first.user_id, first.candidates) == first.scores).all()
    bodies = [
        {"id": item, "fields": {"display": display, "mailer": mailer}}
        for item, display, mailer in zip(first.candidates, *first.fields.values(), strict=True)
    ]
    assert ranker.score_json(first.user_id, bodies).tolist() == first.scores
