"""The service itself, started on published records: its provider, its scores, and a closed loop over loopback HTTP."""

import json
import os
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
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
from loadtest.gpu_check.results import Results
from loadtest.peers.driver import load
from models.contract.artifact import SCORE
from models.contract.embedded_cache import start_server, stop_server
from models.contract.generation import MODELS_KEY, Generation, Pointer, pointer_key
from models.contract.schema import UNKNOWN
from service.tools.running_service import running_service

MODEL = "lrea"
SLATES = (256, 1024)
COMPARED_SLATE = 200
CONCURRENCIES = (1, 16)
REQUESTS = 200
WARM_UP_S = 0.5
CUDA_LIBRARY = "onnxruntime/capi/libonnxruntime_providers_cuda.so"
ANSWERS = "answers compared with onnxruntime on the CPU"
LOOP = "closed loop over loopback HTTP, ms"


def check_service(options: Options, results: Results) -> None:
    """Run the service with each engine on the GPU, and on the CPU.

    Raises:
        RuntimeError: a service did not start or gave no answer; the notes have the reason.
    """
    inputs = options.inputs()
    with options.cache_folder() as folder:
        try:
            url = f"unix://{start_server(folder)}"
            publish(url, inputs)
            failed = _check_all(url, inputs, options, results)
        finally:
            stop_server(folder)
    if failed:
        raise RuntimeError(f"{', '.join(failed)}: see the notes")


def _check_all(url: str, inputs: Inputs, options: Options, results: Results) -> list[str]:
    """Check every service; return the names of those that failed."""
    artifacts = str(inputs.artifact.path.parent)
    common = {"ABSORB_CACHE_URL": url, "ABSORB_ARTIFACT_DIR": artifacts}
    failed = []
    for name, settings in _services(options, results).items():
        try:
            with _environment({**common, **settings}):
                _check_service(name, inputs, options, results)
        except Exception as error:  # the other services are checked anyway
            results.note(f"{name}: {type(error).__name__}: {str(error)[:2000]}")
            failed.append(name)
    return failed


def _services(options: Options, results: Results) -> dict[str, dict[str, str]]:
    """Name -> environment variables of each service."""
    # Where an ONNX Runtime without CUDA is installed behind one with it, the service on the CPU uses the former.
    folders = [f for f in os.environ.get("PYTHONPATH", "").split(os.pathsep) if f]
    without_cuda = [folder for folder in folders if not (Path(folder) / CUDA_LIBRARY).exists()]
    cpu = {
        "CUDA_VISIBLE_DEVICES": "",
        "ABSORB_ENGINE": "onnxruntime",
        "ABSORB_BATCH_MAX_REQUESTS": "1",
        "PYTHONPATH": os.pathsep.join(without_cuda),
    }
    if options.device != "cuda":
        results.note("the service on a GPU: not run: no CUDA device")
        return {"engine torch, on the CPU": {**cpu, "ABSORB_ENGINE": "torch"}, "cpu": cpu}
    # As many threads of a score as cores: one worker, so that waiting requests join in one launch.
    joined = {"ABSORB_ENGINE": "torch", "ABSORB_NUM_THREADS": str(os.cpu_count())}
    services = {
        "engine torch": {"ABSORB_ENGINE": "torch"},
        "engine torch, one worker": joined,
        "engine torch, no device tier": {
            "ABSORB_ENGINE": "torch",
            "ABSORB_DEVICE_CACHE_BYTES": "0",
        },
    }
    if CUDA in ort.get_available_providers():
        services["cuda"] = {"ABSORB_ENGINE": "onnxruntime"}
        services["engine cuda"] = {"ABSORB_ENGINE": "cuda"}
    else:
        results.note(f"onnxruntime {ort.__version__} has no CUDA provider: not run with it")
    return {**services, "cpu": cpu}


def publish(url: str, inputs: Inputs) -> Generation:
    """Write the records and a pointer to them into an empty cache, with the keys that the builder uses."""
    now = datetime.now(UTC)
    generation = Generation(
        model=MODEL,
        name=f"{now:%Y%m%dT%H%M%SZ}-000000",
        artifact_id=inputs.artifact.artifact_id,
        num_users=len(inputs.packed),
        as_of_s=inputs.records[0].as_of_s,
        created_s=int(now.timestamp()),
        dtype="fp32",
    )
    with Redis.from_url(url) as client, client.pipeline(transaction=False) as pipeline:
        for user_id, raw in inputs.packed:
            pipeline.set(generation.key(user_id), raw)
        pipeline.set(pointer_key(MODEL), Pointer(generation, None).to_bytes())
        pipeline.sadd(MODELS_KEY, MODEL)
        pipeline.execute()
    return generation


def _check_service(name: str, inputs: Inputs, options: Options, results: Results) -> None:
    log = options.out / f"service-{name.replace(', ', '-').replace(' ', '-')}.log"
    start = time.perf_counter()
    with running_service(log) as url:
        started_s = time.perf_counter() - start
        (served,) = _fetch(f"{url}/v1/models")["models"]
        engine = f"{served['engine']['name']} on {served['engine']['device']}"
        row = {"service": name, "engine": engine, "started s": started_s}
        results.add(ANSWERS, row | _compare(url, inputs, options))
        port = int(url.rpartition(":")[2])
        for slate in SLATES:
            queries = _queries(inputs, REQUESTS, slate)
            requests = [_http_request(port, user, candidates) for user, candidates in queries]
            for concurrency in CONCURRENCIES:
                loading = load(port, concurrency, requests, WARM_UP_S, options.effort.serve_seconds)
                latency_s, seconds, degraded = uvloop.run(loading)
                p50, p99 = (1000 * float(np.percentile(latency_s, q)) for q in (50, 99))
                row = {"service": name, "B": slate, "concurrency": concurrency, "p50": p50}
                row["device hits"] = _device_hits(url)
                per_s = len(latency_s) / seconds
                results.add(LOOP, row | {"p99": p99, "answers/s": per_s, "degraded": degraded})


def _device_hits(url: str) -> float:
    """Share of all lookups so far that the device tier answered."""
    by_tier = {row["tier"]: row for row in _fetch(f"{url}/v1/cache")["tiers"]}
    first = by_tier["device"] if by_tier["device"]["lookups"] else by_tier["host"]
    return float(by_tier["device"]["results"]["hit"] / max(first["lookups"], 1))


def _compare(url: str, inputs: Inputs, options: Options) -> dict[str, Any]:
    session, calibration = open_cpu(inputs.artifact.graph(SCORE), 1), inputs.artifact.calibration()
    largest, degraded = 0.0, 0
    queries = _queries(inputs, options.effort.users, COMPARED_SLATE)
    for number, (user_id, candidates) in enumerate(queries):
        answer = _fetch(f"{url}/v1/score", _body(user_id, candidates))
        feed = inputs.feed([number], COMPARED_SLATE)
        for name in ("context_fields", "candidate_fields"):  # the requests give none
            if name in feed:
                feed[name] = np.full_like(feed[name], UNKNOWN)
        feed["items"] = inputs.artifact.vocabulary.item_rows(candidates)[None]
        logits: NDArray[np.float64] = run_plain(session, feed)[0].astype(np.float64)
        if calibration is not None:
            logits = calibration.log_odds(logits)
        difference = np.abs(answer["scores"] - 1 / (1 + np.exp(-logits)))
        largest = max(largest, float(difference.max()))
        degraded += answer["degraded"]
    return {"users": len(queries), "degraded": degraded, "max p": largest}


def _queries(inputs: Inputs, count: int, candidates: int) -> list[tuple[str, list[str]]]:
    """User id and candidates of each request; users in the order of the records."""
    rng = np.random.default_rng(candidates)
    items = np.array(inputs.artifact.vocabulary.items)
    users = [inputs.records[number % len(inputs.records)].user_id for number in range(count)]
    return [(user, rng.choice(items, candidates).tolist()) for user in users]


def _http_request(port: int, user_id: str, candidates: Sequence[str]) -> bytes:
    body = _body(user_id, candidates)
    lines = [
        "POST /v1/score HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _body(user_id: str, candidates: Sequence[str]) -> bytes:
    return json.dumps({"user_id": user_id, "candidates": candidates}).encode()


def _fetch(url: str, body: bytes | None = None) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started inside the block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
