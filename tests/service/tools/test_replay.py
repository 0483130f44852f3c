"""Replay of captured requests: what is compared, and what the exit code says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from service.tools.replay import agree, app, made_from, read_records
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio
TOY = Toy()
BODY = {"user_id": "ann", "candidates": ["i1", "i5"]}


def run(*arguments: str) -> int:
    """Exit code of the command."""
    code: int = app(arguments, standalone_mode=False)
    return code


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        ({"scores": [0.1, 0.2]}, {"scores": [0.1, 0.2 + 1e-7]}, True),
        ({"scores": [0.1, 0.2]}, {"scores": [0.1, 0.3]}, False),
        ({"scores": [0.1]}, {"scores": [0.1, 0.3]}, False),
        (
            {"scores": None, "ranked": [{"item": "a", "score": 1}]},
            {"ranked": [{"item": "a", "score": 1}]},
            True,
        ),
        (
            {"models": [{"model": "m", "scores": [1]}]},
            {"models": [{"model": "m", "scores": [2]}]},
            False,
        ),
        ({"outputs": [{"name": "p", "datatype": "FP64", "data": [1]}]}, {"outputs": []}, None),
        ({"error": "x"}, {"scores": [1]}, None),
    ],
)
def test_answers_agree_if_their_scores_do(then: Any, now: Any, expected: bool | None):
    assert agree(then, now) is expected


def test_a_file_without_captured_requests_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "x.jsonl"
    for text, problem in (
        ("{", ":1: got a line without"),
        ("[]", ":1: got a line without"),
        (
            '{"method": "POST", "path": "/", "status": 200, "took_ms": "1"}\n',
            ":1: got a line without request_id, route, took_ms (or with another type), expected a captured",
        ),
    ):
        path.write_text(text)
        assert run(str(path)) == 2
        assert problem in capsys.readouterr().err
    path.write_text("")
    assert run(str(path), "--url", "nonsense") == 2
    assert "expected http://host:port" in capsys.readouterr().err
    assert run(str(tmp_path / "absent")) == 2


def test_lines_that_were_not_written_whole_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    whole = {"method": "POST", "path": "/", "request_id": "r", "route": "/", "status": 200}
    line = json.dumps({**whole, "took_ms": 1})
    path = tmp_path / "x.jsonl"
    path.write_text(f'{line}\n{line[:40]}\n{line}\n{{"method": "PO')
    assert len(list(read_records(path))) == 2
    assert "left out 2 line(s) that are no JSON, first 2" in caplog.text


STATE = {"source": "hit"}
V2_ANSWER = {
    "outputs": [
        {"name": "state_source", "data": ["hit", "miss"]},
        {"name": "generation", "data": ["g1", "g1"]},
        {"name": "scores", "datatype": "FP32", "data": [0.5, 0.25]},
    ]
}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"generation": "g1", "state": STATE, "scores": [0.5]}, ["g1 hit"]),
        (
            {"models": [{"generation": "g1", "state": STATE}, {"generation": None, "state": None}]},
            ["g1 hit"],
        ),
        (V2_ANSWER, ["g1 hit", "g1 miss"]),
        ({"outputs": V2_ANSWER["outputs"][1:]}, []),
        ({"error": "x"}, []),
        ({}, []),
    ],
)
def test_generation_and_source_are_read_from_answers_of_every_route(
    answer: Any, expected: list[str]
):
    assert made_from(answer) == expected


async def test_scores_are_compared_only_within_one_generation_and_source(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    generation = world.publish(TOY)
    inputs = [
        {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["ann"]},
        {"name": "candidates", "shape": [1, 2], "datatype": "BYTES", "data": ["i1", "i5"]},
    ]
    path = tmp_path / "slow.jsonl"
    async with world.service(slow_ms=1e-6, host_cache_bytes=0) as service:
        await service.client.post("/v2/models/toy/infer", json={"inputs": inputs})
        await service.client.post("/v1/compare", json=BODY)
        records = [
            json.loads(line) for line in (await service.client.get("/v1/slow")).text.splitlines()
        ]
        codes = []
        async with listening(service.app) as url:
            for is_there in (True, False):
                for record in records:
                    wrong = {**record, "answer": record["answer"].replace("0.", "0.9")}
                    path.write_text(json.dumps(wrong))
                    codes.append(await asyncio.to_thread(run, str(path), "--url", url))
                if is_there:
                    with world.redis as client:
                        client.delete(generation.key("ann"))
    assert codes == [1, 1, 0, 0]
    assert "none to" in capsys.readouterr().out


async def test_a_capture_is_replayed_against_a_service(
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("COLUMNS", "200")
    world.publish(TOY)
    async with world.service(slow_ms=1e-6) as service, listening(service.app) as url:
        for more in ({}, {"top_k": 1}):
            await service.client.post("/v1/score", json={**BODY, **more})
        await service.client.post("/v1/compare", json=BODY)
        path = tmp_path / "slow.jsonl"
        path.write_text((await service.client.get("/v1/slow")).text)
        assert await asyncio.to_thread(run, str(path), "--url", url) == 0
        told = capsys.readouterr().out
        assert told.count("agree") == 3
        assert "3 of 3 replayed" in told
        record = json.loads(path.read_text().splitlines()[-1])
        record["answer"] = record["answer"].replace("0.", "0.9")
        path.write_text(json.dumps(record))
        assert await asyncio.to_thread(run, str(path), "--url", url) == 1
        assert "differ" in capsys.readouterr().out


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """The application on a socket, in this event loop."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving
