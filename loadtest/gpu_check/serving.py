"""The service itself, started on published records: the provider it chose, its answers, a closed loop over loopback."""

import json
import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uvloop
from numpy.typing import NDArray
from redis import Redis

from loadtest.gpu_check.inputs import Inputs
from loadtest.gpu_check.onnx_engines import CUDA, open_cpu, run_plain
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.report import Report
from loadtest.peers.driver import load
from models.contract.artifact import SCORE
from models.contract.cache_server import start_server, stop_server
from models.contract.record import MODELS_KEY, Generation, Pointer, pointer_key
from models.contract.schema import UNKNOWN
from service.tools.running_service import running_service

MODEL = "lrea"
SLATES = (256, 1024)
CONCURRENCIES = (1, 16)
REQUESTS = 200
WARM_UP_S = 0.5
CUDA_LIBRARY = "onnxruntime/capi/libonnxruntime_providers_cuda.so"
CELL = "closed loop over loopback HTTP, ms"


def check_service(options: Options, report: Report) -> None:
    """On CUDA as it comes, on CUDA with one thread that joins requests, and on the CPU."""
    inputs = options.inputs()
    folder = Path(tempfile.mkdtemp(prefix="absorb", dir="/tmp"))  # a unix socket's path is short
    try:
        url = f"unix://{start_server(folder)}"
        publish(url, inputs)
        common = {
            "ABSORB_CACHE_URL": url,
            "ABSORB_ARTIFACT_DIR": str(inputs.artifact.path.parent),
        }
        failed = []
        for name, settings in _services(options, report).items():
            try:
                with _environment({**common, **settings}):
                    _check_one(name, inputs, options, report)
            except Exception as error:  # one that does not start leaves the others
                report.note(f"{name}: {type(error).__name__}: {str(error)[:2000]}")
                failed.append(name)
        if failed:
            raise RuntimeError(f"{', '.join(failed)}: see the notes")
    finally:
        stop_server(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _services(options: Options, report: Report) -> dict[str, dict[str, str]]:
    """Name -> what is set for it."""
    # Where another ONNX Runtime lies behind the one for CUDA, the service on the CPU has that one.
    folders = [f for f in os.environ.get("PYTHONPATH", "").split(os.pathsep) if f]
    plain = [folder for folder in folders if not (Path(folder) / CUDA_LIBRARY).exists()]
    cpu = {
        "CUDA_VISIBLE_DEVICES": "",
        "ABSORB_BATCH_MAX_REQUESTS": "1",
        "PYTHONPATH": os.pathsep.join(plain),
    }
    if options.device != "cuda" or CUDA not in ort.get_available_providers():
        report.note("the service on CUDA: not run, no CUDA device or no provider for it")
        return {"cpu": cpu}
    one = {"ABSORB_NUM_THREADS": str(os.cpu_count())}
    return {"cuda": {}, "cuda, one runner": one, "cpu": cpu}


def publish(url: str, inputs: Inputs) -> Generation:
    """Write the records and a pointer to them, as a publish does, into an empty cache."""
    now = datetime.now(UTC)
    generation = Generation(
        model=MODEL, name=f"{now:%Y%m%dT%H%M%SZ}-000000", artifact_id=inputs.artifact.artifact_id,
        num_users=len(inputs.raws), as_of_s=inputs.records[0].as_of_s,
        created_s=int(now.timestamp()), dtype="fp32",
    )  # fmt: skip
    with Redis.from_url(url) as client, client.pipeline(transaction=False) as pipeline:
        for user_id, raw in inputs.raws:
            pipeline.set(generation.key(user_id), raw)
        pipeline.set(pointer_key(MODEL), Pointer(generation, None).to_bytes())
        pipeline.sadd(MODELS_KEY, MODEL)
        pipeline.execute()
    return generation


def _check_one(name: str, inputs: Inputs, options: Options, report: Report) -> None:
    log = options.out / f"service-{name.replace(', ', '-').replace(' ', '-')}.log"
    start = time.perf_counter()
    with running_service(log) as url:
        started_s = time.perf_counter() - start
        (about,) = _get(f"{url}/v1/models")["models"]
        report.add(
            "answers compared with onnxruntime on the CPU",
            {"service": name, "provider": about["provider"], "started s": started_s,
             **_compared(url, inputs, options)},
        )  # fmt: skip
        port = int(url.rpartition(":")[2])
        for candidates in SLATES:
            bodies = [_request(port, *one) for one in _queries(inputs, REQUESTS, candidates)]
            for concurrency in CONCURRENCIES:
                found = uvloop.run(
                    load(port, concurrency, bodies, WARM_UP_S, options.serve_seconds)
                )
                report.add(CELL, _cell(name, candidates, concurrency, *found))


def _compared(url: str, inputs: Inputs, options: Options) -> dict[str, Any]:
    session = open_cpu(inputs.artifact.file(SCORE), 1)
    worst, degraded = 0.0, 0
    queries = _queries(inputs, options.users, 200)
    for at, (user_id, candidates) in enumerate(queries):
        body = json.dumps({"user_id": user_id, "candidates": candidates}).encode()
        answer = _get(f"{url}/v1/score", body)
        feed = inputs.feed([at % len(inputs.records)], 1)
        feed["context_fields"] = np.full_like(feed["context_fields"], UNKNOWN)
        feed["items"] = inputs.artifact.vocabulary.item_rows(candidates)[None]
        logits: NDArray[Any] = run_plain(session, feed)[0].astype(np.float64)
        worst = max(worst, float(np.abs(answer["scores"] - 1 / (1 + np.exp(-logits))).max()))
        degraded += answer["degraded"]
    return {"users": len(queries), "degraded": degraded, "max p": worst}


def _queries(inputs: Inputs, count: int, candidates: int) -> list[tuple[str, list[str]]]:
    """(user id, candidates) of some requests; users in the order of the records."""
    rng = np.random.default_rng(candidates)
    items = np.array(inputs.artifact.vocabulary.items)
    return [
        (inputs.records[at % len(inputs.records)].user_id, rng.choice(items, candidates).tolist())
        for at in range(count)
    ]


def _request(port: int, user_id: str, candidates: list[str]) -> bytes:
    body = json.dumps({"user_id": user_id, "candidates": candidates}).encode()
    head = (
        f"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    )
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _cell(
    name: str, candidates: int, concurrency: int, latency_s: NDArray[np.float64], seconds: float, degraded: int
) -> dict[str, Any]:  # fmt: skip
    p50, p99 = (1000 * float(np.percentile(latency_s, q)) for q in (50, 99))
    return {
        "service": name, "B": candidates, "at a time": concurrency, "p50": p50, "p99": p99,
        "answers/s": len(latency_s) / seconds, "degraded": degraded,
    }  # fmt: skip


def _get(url: str, body: bytes | None = None) -> Any:
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Environment of what is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
