"""The drain of a process: over TCP, with its own cache, stopped by a signal."""

import asyncio
import json
import re
import shutil
import signal
import ssl
import subprocess
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import uvicorn

from service.process.drain import DrainingServer
from service.runtime.readiness import Readiness
from service.runtime.workers import Workers
from service.tools.keys import new_key
from tests.service.certificates import make_certificate
from tests.service.running import service_process, until_ready, wait_for
from tests.service.toy import Toy
from tests.service.world import HISTORIES, RECENT, World

TOY = Toy()


@pytest.mark.anyio
async def test_a_process_serves_and_stops(own_cache: Path, tmp_path: Path):
    world = World(f"unix://{own_cache}/valkey.sock", tmp_path / "artifacts")
    world.publish(TOY)
    log = tmp_path / "log"
    settings = {
        "cache_url": f"embedded:{own_cache}",
        "artifact_dir": str(world.artifacts),
        "max_body_bytes": "1000",
        "drain_delay_s": "1.5",
        "grpc_port": "0",
    }
    with service_process(log, **settings) as process:
        port = await wait_for(process, log, r"running on http://127\.0\.0\.1:(\d+)")
        grpc_port = await wait_for(process, log, r"gRPC running on 127\.0\.0\.1:(\d+)")
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
        before = await asyncio.to_thread(is_live_over_grpc, grpc_port)
        await wait_for(process, log, "(Shutting down)")
        after_end = await asyncio.to_thread(is_live_over_grpc, grpc_port)
        assert process.poll() is None  # a request over HTTP is still in flight
        finished = await slow.end(json.dumps(body).encode())
        assert await asyncio.to_thread(process.wait, 30) == 0
    assert "draining" in ready.json()["error"]
    assert (live.status_code, served.status_code, before, after_end) == (200, 200, True, False)
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
    assert (swap["model"], swap["engine"]) == ("toy", "onnxruntime")


class Slow:
    """A request whose body is sent later."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def begun(cls, port: str) -> "Slow":
        self = cls(*await asyncio.open_connection("127.0.0.1", int(port)))
        head = "POST /v1/score HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.writer.write(head.encode())
        await self.writer.drain()
        await asyncio.sleep(0.1)  # it must be in before the signal
        return self

    async def end(self, body: bytes) -> str:
        self.writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        answer = (await self.reader.read()).decode()
        self.writer.close()
        return answer


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_a_tls_process_ends_at_once_after_a_second_signal(tmp_path: Path):
    log = tmp_path / "log"
    certificate, key = make_certificate(tmp_path)
    secret, its_hash = new_key()
    settings = {"cache_url": "redis://:secret@127.0.0.1:1", "drain_delay_s": "60"}
    settings |= {"tls_cert_file": str(certificate), "tls_key_file": str(key), "api_keys": its_hash}
    settings["grpc_port"] = "0"
    with service_process(log, **settings, host="0.0.0.0") as process:
        port = asyncio.run(wait_for(process, log, r"running on https://0\.0\.0\.0:(\d+)"))
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted) as client:
            models = client.get("/v1/models", headers={"X-API-Key": secret})
            stranger = client.get("/v1/models", headers={"X-API-Key": f"{secret}x"})
            docs = client.get("/health/live")
        grpc_port = asyncio.run(wait_for(process, log, r"gRPC running on 0\.0\.0\.0:(\d+)"))
        refused = grpc_codes(f"127.0.0.1:{grpc_port}", certificate, secret)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/health/live")
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 1
    assert (models.status_code, stranger.status_code) == (200, 401)
    assert refused == ["OK", "UNAUTHENTICATED", "UNAVAILABLE", "PERMISSION_DENIED"]
    for answer in (models, stranger, docs):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    assert not re.search(f"secret@|{secret}|{its_hash}", log.read_text())


def is_live_over_grpc(port: str) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: Any = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        try:
            ask(b"", timeout=5)
        except grpc.RpcError:
            return False
        return True


@pytest.mark.anyio
async def test_a_second_signal_ends_a_hanging_shutdown():
    hangs = asyncio.Event()

    async def app(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        hangs.set()
        await asyncio.Event().wait()

    async def probe() -> None:
        pass

    workers, closed = Workers(1), []
    config = uvicorn.Config(app, port=0, lifespan="on", log_config=None)
    server = DrainingServer(config, Readiness(probe, workers), 0.0, lambda: closed.append(True))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    server.handle_exit(signal.SIGTERM, None)
    await hangs.wait()
    assert closed == [True]
    assert not serving.done()
    server.handle_exit(signal.SIGTERM, None)
    await asyncio.wait_for(serving, 5)
    workers.shutdown()


def grpc_codes(address: str, certificate: Path, key: str) -> list[str]:
    """Status codes without a key, with a wrong key and with a scoring key: for metadata and for loading a model."""
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    codes = []
    with grpc.secure_channel(address, credentials) as channel:
        for call, headers in [
            ("ServerLive", []),
            ("ModelMetadata", [("x-api-key", f"{key}x")]),
            ("ModelMetadata", [("authorization", f"Bearer {key}")]),
            ("RepositoryModelLoad", [("x-api-key", key)]),
        ]:
            ask: Any = channel.unary_unary(f"/inference.GRPCInferenceService/{call}")
            try:
                ask(b"", metadata=headers, timeout=20)
                codes.append("OK")
            except grpc.RpcError as error:
                failed: Any = error
                codes.append(failed.code().name)
    return codes


async def _spaces(num_bytes: int):
    for _ in range(num_bytes // 100):
        yield b" " * 100
