"""The protocol over HTTP, byte by byte, in this process. What unmodified clients make of it is in test_clients.py."""

import gzip
import os
import struct
import threading
import time
import zlib
from itertools import product
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from service.query import Query
from service.settings import Settings
from service.transport.limits import SlateLimits
from service.v2.tensors import queries_of
from service.v2.wire import read_infer
from tests.service.toy import AS_OF_S, Toy
from tests.service.world import Running, World

pytestmark = pytest.mark.anyio
VERSION = str(AS_OF_S + 60)
LENGTH = "Inference-Header-Content-Length"
SLATE = ["i1", "i5", "no such"]
INFER = "/v2/models/toy/infer"
Json = dict[str, Any]


def packed(values: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(one)) + one.encode() for one in values)


def in_json(**more: Any) -> Json:
    return {
        "inputs": [
            {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["ann"]},
            {"name": "candidates", "shape": [3], "datatype": "BYTES", "data": SLATE},
        ],
        **more,
    }


def in_bytes(**more: Any) -> tuple[bytes, dict[str, str]]:
    inputs, tail = [], b""
    for name, values in (("user_id", ["ann"]), ("candidates", SLATE)):
        raw = packed(values)
        tail += raw
        size = {"binary_data_size": len(raw)}
        shape = [len(values)]
        inputs.append({"name": name, "shape": shape, "datatype": "BYTES", "parameters": size})
    header = orjson.dumps({"inputs": inputs, **more})
    return header + tail, {LENGTH: str(len(header))}


def outputs_of(response: httpx.Response) -> dict[str, Any]:
    """Output -> its values, however they came; nothing may be left of the body."""
    assert response.status_code == 200, response.text
    size = int(response.headers.get(LENGTH, len(response.content)))
    said, tail = orjson.loads(response.content[:size]), response.content[size:]
    outputs = {}
    for one in said["outputs"]:
        values = one.get("data")
        if values is None:
            raw = tail[: one["parameters"]["binary_data_size"]]
            tail = tail[len(raw) :]
            dtypes = {"FP32": "<f4", "BOOL": "?"}
            is_text = one["datatype"] == "BYTES"
            values = [raw[4:].decode()] if is_text else np.frombuffer(raw, dtypes[one["datatype"]])
        outputs[one["name"]] = values
    assert tail == b""
    return outputs


async def expected_scores(running: Running) -> np.ndarray:
    return np.array((await running.score("ann", SLATE))["scores"], np.float32)


def form_of(is_binary_in: bool, is_binary_out: bool, encoding: str | None):
    """Body and headers of one request in one of the forms."""
    parameters = {"binary_data_output": is_binary_out}
    as_bytes = in_bytes(parameters=parameters)
    body, headers = as_bytes if is_binary_in else (orjson.dumps(in_json(parameters=parameters)), {})
    if encoding is None:
        return body, headers
    packer = gzip.compress if encoding == "gzip" else zlib.compress
    return packer(body), {**headers, "Content-Encoding": encoding}


async def test_all_forms_give_the_same_scores(world: World) -> None:
    world.publish(Toy())
    forms = list(product([True, False], [True, False], [None, "gzip", "deflate"]))
    async with world.service() as running:
        expected = await expected_scores(running)
        for form in forms:
            body, headers = form_of(*form)
            response = await running.client.post(INFER, content=body, headers=headers)
            outputs = outputs_of(response)
            assert (LENGTH in response.headers) is form[1]
            assert np.array_equal(np.array(outputs["scores"], np.float32), expected), form
            assert list(outputs["unknown"]) == [False, False, True]
            assert outputs["state_source"] == ["hit"]


async def test_an_outputs_own_parameter_decides_its_form(world: World) -> None:
    world.publish(Toy())
    asked = in_json(
        id="a7",
        parameters={"binary_data_output": True},
        outputs=[
            {"name": "state_source", "parameters": {"binary_data": False}},
            {"name": "scores"},
        ],
    )
    async with world.service() as running:
        response = await running.client.post(f"/v2/models/toy/versions/{VERSION}/infer", json=asked)
    said = orjson.loads(response.content[: int(response.headers[LENGTH])])
    assert (said["id"], said["model_name"], said["model_version"]) == ("a7", "toy", VERSION)
    assert [one["name"] for one in said["outputs"]] == ["state_source", "scores"]
    assert said["outputs"][0]["data"] == ["hit"]
    assert said["outputs"][1]["parameters"] == {"binary_data_size": 12}
    assert response.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate, br", "deflate"),
        ("gzip;q=0, deflate;q=0.5", "deflate"),
        ("br", None),
        ("", None),
    ],
)
async def test_an_answer_is_compressed_as_the_client_takes_it(
    world: World, accepted: str, encoding: str | None
) -> None:
    world.publish(Toy())
    asked = in_json(parameters={"binary_data_output": True})
    asked["inputs"][1].update(shape=[900], data=SLATE * 300)
    async with world.service() as running:
        headers = {"Accept-Encoding": accepted}
        response = await running.client.post(INFER, json=asked, headers=headers)
    assert response.headers.get("content-encoding") == encoding
    assert len(outputs_of(response)["scores"]) == 900


def with_input(at: int, **changes: Any) -> bytes:
    asked = in_json()
    asked["inputs"][at].update(changes)
    return orjson.dumps(asked)


BAD: dict[str, tuple[bytes, dict[str, str], str]] = {
    "no JSON": (b"{", {}, "body: got b'{', expected JSON"),
    "a list": (b"[]", {}, "a JSON object"),
    "nothing": (b"", {}, "an input 'user_id'"),
    "no inputs": (b'{"inputs": 7}', {}, "inputs: got 7, expected a list"),
    "raw mode": (b"abc", {LENGTH: "0"}, "raw mode"),
    "an invalid length": (b"{}", {LENGTH: "-1"}, "a number of bytes"),
    "a length beyond the body": (b"{}", {LENGTH: "3"}, "at most the 2 bytes"),
    "bytes without a length": (in_bytes()[0], {}, "expected JSON"),
    "bytes too many": (in_bytes()[0] + b"x", in_bytes()[1], "1 bytes more than the inputs name"),
    "bytes too few": (in_bytes()[0][:-1], in_bytes()[1], "that follow"),
    "data twice": (
        with_input(0, parameters={"binary_data_size": 0}),
        {},
        "no data beside binary_data_size",
    ),
    "an invalid shape": (with_input(0, shape=[-1]), {}, "inputs[user_id].shape: got [-1]"),
    "a shape too long": (with_input(0, shape=[10**19] * 230), {}, "at most 8 numbers"),
    "a size too large": (with_input(0, shape=[1 << 41]), {}, "inputs[user_id].shape: got [2199"),
    "an invalid datatype": (with_input(0, datatype=7), {}, ".datatype: got 7"),
    "a datatype that is not spoken": (with_input(0, datatype="BF16"), {}, "one of BOOL"),
    "no data": (with_input(1, data=None), {}, "inputs[candidates].data: got None"),
    "shared memory": (
        with_input(0, parameters={"shared_memory_region": "r"}),
        {},
        "no shared memory",
    ),
    "classification": (
        orjson.dumps(in_json(outputs=[{"name": "scores", "parameters": {"classification": 2}}])),
        {},
        "no classification",
    ),
    "an output twice": (
        orjson.dumps(in_json(outputs=[{"name": "scores"}] * 2)),
        {},
        "each name once",
    ),
    "an invalid id": (orjson.dumps(in_json(id=7)), {}, "id: got 7"),
    "an invalid timeout": (
        orjson.dumps(in_json(parameters={"timeout": -1})),
        {},
        "parameters.timeout: got -1",
    ),
    "an invalid priority": (
        orjson.dumps(in_json(parameters={"priority": "high"})),
        {},
        "parameters.priority",
    ),
    "no gzip": (b"{}", {"Content-Encoding": "gzip"}, "gzip"),
}


async def test_a_bad_request_is_400_and_says_why(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        for what, (body, headers, expected) in BAD.items():
            response = await running.client.post(INFER, content=body, headers=headers)
            assert response.status_code == 400, what
            assert list(response.json()) == ["error"], what
            assert expected in response.json()["error"], what


DEEP = b"[" * 1000 + b"]" * 1000
LONG = "a" * 500_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/repository/index", DEEP),
        ("/v2/repository/index", b'{"ready": %s}' % DEEP),
        (INFER, b'{"id": %s}' % DEEP),
        (INFER, b'{"inputs": %s}' % DEEP),
        (INFER, with_input(0, name=LONG)),
        (INFER, with_input(0, name=LONG, datatype="INT8")),
        (INFER, orjson.dumps(in_json(outputs=[{"name": LONG}]))),
    ],
)
async def test_what_is_long_or_deep_is_refused_in_a_few_words(
    world: World, path: str, body: bytes
) -> None:
    world.publish(Toy())
    async with world.service() as running:
        response = await running.client.post(path, content=body)
    assert response.status_code == 400
    assert len(response.json()["error"]) < 500


async def test_what_is_too_long_unpacked_is_refused(world: World) -> None:
    world.publish(Toy())
    bomb = gzip.compress(b" " * 5000)
    async with world.service(max_body_bytes=4000) as running:
        headers = {"Content-Encoding": "gzip"}
        response = await running.client.post(INFER, content=bomb, headers=headers)
    assert response.status_code == 413
    assert list(response.json()) == ["error"]


def query(settings: Settings, **parameters: int) -> Query:
    asked = orjson.dumps(in_json(parameters=parameters))
    request = read_infer("toy", "", asked, None, SlateLimits.of(settings))
    (query,) = queries_of(request, Toy().vocabulary, settings)
    return query


def test_timeout_and_priority_become_the_querys() -> None:
    settings = Settings(timeout_ms=3000, max_timeout_ms=9000)
    for timeout_us, seconds in ((5_000_000, 5), (0, 3), (10**12, 9)):
        found = query(settings, timeout=timeout_us, priority=2)
        assert found.deadline == pytest.approx(time.monotonic() + seconds, abs=1)
        assert found.priority == 2
    assert query(settings).priority == 0


@pytest.mark.parametrize(
    ("headers", "parameters", "status"),
    [
        ({"X-Request-Timeout-Ms": "1"}, {}, 504),
        ({"X-Request-Timeout-Ms": "1"}, {"timeout": 5_000_000}, 200),
        ({"X-Request-Timeout-Ms": "60000", "X-Request-Priority": "1"}, {}, 200),
        ({"X-Request-Timeout-Ms": "soon"}, {}, 400),
        ({"X-Request-Priority": "-1"}, {}, 400),
    ],
)
async def test_headers_give_timeout_and_priority_if_parameters_do_not(
    world: World, headers: dict[str, str], parameters: dict[str, int], status: int
) -> None:
    world.publish(Toy())
    over = threading.Event()
    async with world.service() as running:
        if status == 504:
            for _ in range(os.cpu_count() or 1):
                running.dependencies.workers.submit(over.wait)
        body = in_json(parameters=parameters)
        response = await running.client.post(INFER, json=body, headers=headers)
        over.set()
    assert response.status_code == status, response.text


async def test_what_is_not_there_is_404(world: World) -> None:
    world.publish(Toy())
    paths = ("models/nosuch", "models/toy/versions/1")
    more = ("", "/ready", "/config", "/stats")
    async with world.service() as running:
        for path in (*(path + end for path in paths for end in more), "nothing"):
            response = await running.client.get(f"/v2/{path}")
            assert response.status_code == 404, path
            assert list(response.json()) == ["error"], path


async def test_health_has_a_body(world: World) -> None:
    async with world.service() as running:
        live = await running.client.get("/v2/health/live")
        not_ready = await running.client.get("/v2/health/ready")
        world.publish(Toy())
        await running.follower.poll()
        await running.dependencies.readiness.look()
        ready = await running.client.get("/v2/health/ready")
        model = await running.client.get(f"/v2/models/toy/versions/{VERSION}/ready")
    assert (live.status_code, live.json()) == (200, {"live": True})
    assert (not_ready.status_code, not_ready.json()["ready"]) == (503, False)
    assert "Retry-After" in not_ready.headers
    assert (ready.status_code, ready.json()) == (200, {"ready": True})
    assert model.json() == {"name": "toy", "ready": True}


async def test_the_repository(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        post = running.client.post
        (entry,) = (await post("/v2/repository/index")).json()
        assert entry == {"name": "toy", "version": VERSION, "state": "READY", "reason": ""}
        unloaded = await post("/v2/repository/models/toy/unload")
        assert (unloaded.status_code, unloaded.content) == (200, b"")
        assert (await post("/v2/repository/index", json={"ready": True})).json() == []
        ready = await running.client.get("/v2/models/toy/ready")
        assert ready.status_code == 503
        assert (await post(INFER, json=in_json())).status_code == 503
        loaded = await post("/v2/repository/models/toy/load", json={"parameters": {}})
        assert loaded.status_code == 200
        outputs_of(await post(INFER, json=in_json()))
        assert (await post("/v2/repository/models/nosuch/load")).status_code == 404
        configured = {"parameters": {"config": "{}"}}
        refused = await post("/v2/repository/models/toy/load", json=configured)
        assert refused.status_code == 400
        refused = await post("/v2/repository/index", json={"ready": 1})
        assert refused.status_code == 400
        world.publish(Toy(seed=1), score=b"no graph")
        failed = await post("/v2/repository/models/toy/load")
        assert failed.status_code == 503
        assert "not an ONNX model" in failed.json()["error"]


async def test_what_triton_clients_may_ask(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        get, post = running.client.get, running.client.post
        outputs_of(await post(INFER, json=in_json()))
        (said,) = (await get("/v2/models/stats")).json()["model_stats"]
        assert said["inference_stats"]["success"]["count"] == 1
        assert (await get("/v2/models/toy/stats")).json()["model_stats"] == [said]
        assert (await get("/v2")).json()["name"] == "absorb"
        assert (await get("/v2/models/toy/config")).json()["max_batch_size"] == 0
        assert (await get("/v2/trace/setting")).json() == {"trace_level": ["OFF"]}
        assert (await get("/v2/logging")).json()["log_error"] is True
        refused = await post("/v2/logging", json={"log_info": True})
        assert refused.status_code == 405
        assert "fixed while the service runs" in refused.json()["error"]
