"""`python -m service` as a process: over TCP, with its own cache, stopped by a signal."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.toy import Toy
from tests.service.world import HISTORIES, RECENT, World

ROOT = Path(__file__).parents[2]
TOY = Toy()


@contextmanager
def service_process(log: Path, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
    variables = {f"ABSORB_{name.upper()}": value for name, value in settings.items()}
    environment = {**os.environ, "ABSORB_PORT": "0", **variables}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=environment,
            stderr=output,
            stdout=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def wait_for(process: "subprocess.Popen[bytes]", log: Path, pattern: str) -> str:
    while not (found := re.search(pattern, log.read_text())):
        assert process.poll() is None, log.read_text()
        await asyncio.sleep(0.05)
    return found[1]


async def until_ready(client: httpx.AsyncClient) -> None:
    while (await client.get("/health/ready")).status_code != 200:
        await asyncio.sleep(0.05)


@pytest.mark.anyio
async def test_a_process_serves_and_stops(own_cache: Path, tmp_path: Path):
    world = World(f"unix://{own_cache}/valkey.sock", tmp_path / "artifacts")
    world.publish(TOY)
    log = tmp_path / "log"
    settings = {"cache_url": f"embedded:{own_cache}", "artifact_dir": str(world.artifacts)}
    settings |= {"max_body_bytes": "1000", "drain_delay_s": "1.5"}
    with service_process(log, **settings) as process:
        port = await wait_for(process, log, r"running on http://127\.0\.0\.1:(\d+)")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            await until_ready(client)
            body = {"user_id": "ann", "candidates": ["i1", "i5"]}
            answer = (await client.post("/v1/score", json=body)).json()
            chunked = await client.post("/v1/score", content=_spaces(5000))
            after = await client.post("/v1/score", json=body)
            docs = await client.get("/docs")
            schema = (await client.get("/openapi.json")).json()
            metrics = (await client.get("/metrics")).text
            slow = await Slow.begun(port)
            process.send_signal(signal.SIGTERM)
            while (ready := await client.get("/health/ready")).status_code == 200:
                await asyncio.sleep(0.01)
            live = await client.get("/health/live")
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as another:
                served = await another.post("/v1/score", json=body)
        await wait_for(process, log, "(Shutting down)")
        assert process.poll() is None
        finished = await slow.end(json.dumps(body).encode())
        assert await asyncio.to_thread(process.wait, 30) == 0
    assert "draining" in ready.json()["error"]
    assert (live.status_code, served.status_code) == (200, 200)
    assert finished.startswith("HTTP/1.1 200 ")
    expected = TOY.scores(TOY.state(HISTORIES["ann"]), ["i1", "i5"], RECENT["ann"])
    assert answer["scores"] == pytest.approx(expected, abs=1e-6)
    assert (chunked.status_code, after.status_code, docs.status_code) == (413, 200, 200)
    assert {"process_resident_memory_bytes", "absorb_requests_total"} <= set(
        re.findall(r"\w+", metrics)
    )
    body_schema = schema["paths"]["/v1/score"]["post"]["requestBody"]["content"]["application/json"]
    assert {"user_id", "candidates", "top_k"} <= set(body_schema["schema"]["properties"])
    assert "422" not in json.dumps(schema)
    check_log([json.loads(line) for line in log.read_text().splitlines()])


def check_log(lines: list[dict[str, Any]]) -> None:
    assert lines[-1]["message"].startswith("Finished server process")
    (start,) = (line for line in lines if line["message"] == "starting")
    assert start["providers"] == ["CPUExecutionProvider"]
    (swap,) = (line for line in lines if line["message"] == "generation serves")
    assert (swap["model"], swap["provider"]) == ("toy", "CPUExecutionProvider")


class Slow:
    """A request whose body is sent later."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def begun(cls, port: str) -> "Slow":
        self = cls(*await asyncio.open_connection("127.0.0.1", int(port)))
        head = "POST /v1/score HTTP/1.1\r\nHost: absorb\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.writer.write(head.encode())
        await self.writer.drain()
        await asyncio.sleep(0.1)  # it must be in before the signal
        return self

    async def end(self, body: bytes) -> str:
        self.writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        answer = (await self.reader.read()).decode()
        self.writer.close()
        return answer


def test_a_second_signal_ends_it_at_once(tmp_path: Path):
    log = tmp_path / "log"
    settings = {"cache_url": "redis://127.0.0.1:1", "drain_delay_s": "60"}
    with service_process(log, **settings) as process:
        asyncio.run(wait_for(process, log, r"running on (http)"))
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 1


async def _spaces(num_bytes: int):
    for _ in range(num_bytes // 100):
        yield b" " * 100


def test_a_bad_variable_is_named(tmp_path: Path):
    log = tmp_path / "log"
    with service_process(log, port="http", max_candidates="-1") as process:
        assert process.wait(60) == 2
    assert "ABSORB_PORT: got 'http', expected" in log.read_text()
    assert "ABSORB_MAX_CANDIDATES: got '-1', expected" in log.read_text()


def test_an_embedded_cache_that_cannot_start_is_said(tmp_path: Path):
    log = tmp_path / "log"
    with service_process(log, cache_url="embedded:/tmp/" + "x" * 120) as process:
        assert process.wait(60) == 1
    assert "too long for a unix socket" in log.read_text()


def test_the_service_imports_no_torch():
    code = "import sys, service.__main__; print('torch' in sys.modules, 'polars' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
