"""Times a whole request in one process without a network, its parts, and the same of another checkout, in turn.

    python -m loadtest.request_path [--before ../other-checkout] [--out var/request-path.md]

Each checkout serves the published default model in a process of its own, over one connection that stays open: uvicorn's
protocol gets a request's bytes and writes the answer's, and no socket is between. The processes take turns, so that a
slow moment of the machine hits both. CPU time counts the threads of the service as well.
"""

import asyncio
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

SIZES = (50, 200, 1000)
ROUNDS, REQUESTS = 20, 50
BODIES = 32
"""Bodies for each size; each names another user."""


def main() -> None:
    """Time this checkout, and another one if there is one; write the table."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="folder of another checkout")
    parser.add_argument("--out", type=Path, default=Path("var/request-path.md"))
    options = parser.parse_args()
    folders = [Path(), *([options.before] if options.before else [])]
    with tempfile.TemporaryDirectory() as folder, _all_serving(folders, Path(folder)) as servers:
        text = "\n".join(_lines(servers, ["this checkout", str(options.before)]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n")
    sys.stdout.write(text + "\n")


def _lines(servers: list["Server"], names: list[str]) -> Iterator[str]:
    from loadtest.machine import commit, describe_machine

    yield f"{describe_machine()}; {commit()}. {ROUNDS} rounds of {REQUESTS} requests in turn; medians."
    yield ""
    yield "| candidates | checkout | CPU, ms | time, ms |"
    yield "|---|---|---|---|"
    for size in SIZES:
        rounds = [[server.ask(f"whole {size}") for server in servers] for _ in range(ROUNDS)]
        for place, _ in enumerate(servers):
            times = [took[place] for took in rounds]
            cpu, wall = (median(took[kind] for took in times) for kind in ("cpu_ms", "wall_ms"))
            yield f"| {size} | {names[place]} | {cpu:.3f} | {wall:.3f} |"
    yield ""
    yield "| candidates | part, in µs, each by itself | |"
    yield "|---|---|---|"
    for size in SIZES:
        parts = [servers[0].ask(f"parts {size}") for _ in range(ROUNDS)]
        for part in parts[0]:
            yield f"| {size} | {part} | {median(took[part] for took in parts):.0f} |"


class Server:
    """One checkout's process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, line: str) -> dict[str, float]:
        """Time what the line says.

        Raises:
            ValueError: the process has ended.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("process: got one without pipes, expected pipes")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ValueError(f"{line}: the process ended, expected times")
        times: dict[str, float] = json.loads(answer)
        return times


@contextmanager
def _all_serving(folders: list[Path], folder: Path) -> Iterator[list[Server]]:
    """Start a process for each checkout; all get the same bodies."""
    bodies = folder / "bodies.json"
    bodies.write_text(json.dumps(_bodies()))
    processes: list[subprocess.Popen[str]] = []
    try:
        for checkout in folders:
            command = [sys.executable, str(Path(__file__).resolve()), "--serve", str(bodies)]
            path = {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
            processes.append(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env={**os.environ, **_found_from_here(), **path},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        yield [Server(process) for process in processes]
    finally:
        for process in processes:
            process.communicate(timeout=30)  # closes its pipes, at which it ends


def _found_from_here() -> dict[str, str]:
    """Cache and artifacts as this process finds them: the others run in other folders."""
    from models.contract.embedded_cache import resolve_cache_url
    from service.settings import read_settings

    settings = read_settings()
    return {
        "ABSORB_CACHE_URL": resolve_cache_url(settings.cache_url),
        "ABSORB_ARTIFACT_DIR": str(settings.artifact_dir.resolve()),
    }


def _bodies() -> dict[int, list[str]]:
    from loadtest.sample import sample_of
    from service.settings import read_settings
    from service.tools.published import read_published

    sample = sample_of(read_published(read_settings(), None, BODIES))
    rng = np.random.default_rng(0)

    def body(user: str, size: int) -> str:
        items = rng.choice(sample.items, min(size, len(sample.items)), replace=False).tolist()
        names = sample.candidate_fields
        columns = {name: rng.choice(values, len(items)).tolist() for name, values in names.items()}
        candidates: list[Any] = items
        if columns:
            fields = [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]
            candidates = [{"id": i, "fields": f} for i, f in zip(items, fields, strict=True)]
        context = {name: str(rng.choice(values)) for name, values in sample.context.items()}
        return json.dumps({"user_id": user, "candidates": candidates, "context": context})

    users = [sample.users[at % len(sample.users)] for at in range(BODIES)]
    return {size: [body(user, size) for user in users] for size in SIZES}


class Connection(asyncio.Transport):
    """The other end of a connection, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Addresses of both ends."""
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 8000)}.get(name, default)

    def write(self, data: Any) -> None:
        """Keep what the service writes."""
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        """The connection stays open."""
        return False

    def close(self) -> None:
        """Nothing is open."""

    def pause_reading(self) -> None:
        """Nothing is read by itself."""

    def resume_reading(self) -> None:
        """Nothing is read by itself."""


async def serve(bodies: Mapping[str, list[str]]) -> None:
    """Obey the lines of stdin: times of requests, or of parts, for a number of candidates. Runs in the checkout."""
    start = importlib.import_module("service.__main__")
    settings = importlib.import_module("service.settings").read_settings()
    dependencies = start.build_all(settings, settings.cache_url)
    await dependencies.follower.poll()
    await dependencies.readiness.look()
    app = importlib.import_module("service.app").create_app(dependencies)
    ask = Requests(app)
    loop = asyncio.get_running_loop()
    for raws in bodies.values():
        await ask.all(raws, 2 * len(raws))
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        what, size = line.split()
        if what == "whole":
            times = await _whole(ask, bodies[size])
        else:
            times = _parts(dependencies, bodies[size])
        sys.stdout.write(json.dumps(times) + "\n")
        sys.stdout.flush()


class Requests:
    """Sends requests over one connection, one after another."""

    def __init__(self, app: Any) -> None:
        import uvicorn
        from uvicorn.server import ServerState

        protocol = importlib.import_module("service.process.connections").BoundedProtocol
        config = uvicorn.Config(
            app,
            http=protocol,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            lifespan="off",
        )
        config.load()
        self._protocol = protocol(config=config, server_state=ServerState(), app_state={})
        self._connection = Connection()
        self._protocol.connection_made(self._connection)
        self._answered = asyncio.get_running_loop().create_future()
        complete = self._protocol.on_response_complete

        def answered() -> None:
            complete()
            self._answered.set_result(None)

        self._protocol.on_response_complete = answered

    async def all(self, bodies: list[str], number: int) -> None:
        """Send requests with the bodies in turn, each when the one before is answered.

        Raises:
            ValueError: an answer is not status 200.
        """
        for at in range(number):
            raw = bodies[at % len(bodies)].encode()
            head = (
                f"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Length: {len(raw)}\r\n"
            )
            self._answered = asyncio.get_running_loop().create_future()
            self._protocol.data_received(head.encode() + b"Accept: */*\r\n\r\n" + raw)
            await self._answered
            answer = b"".join(self._connection.written)
            self._connection.written.clear()
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ValueError(f"answer: got {answer[:300]!r}, expected status 200")


async def _whole(ask: Requests, bodies: list[str]) -> dict[str, float]:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    await ask.all(bodies, REQUESTS)
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    return {"cpu_ms": 1e3 * cpu_s / REQUESTS, "wall_ms": 1e3 * wall_s / REQUESTS}


def _parts(dependencies: Any, bodies: list[str]) -> dict[str, float]:
    """Microseconds of the parts of a request: of this checkout only."""
    import orjson

    from models.contract.schema import UNKNOWN
    from service.http.requests import ScoreRequest, parse_request
    from service.native.rows import Rows
    from service.native.tokens import Functions, ScoreReader
    from service.runtime.engines.engine import EngineSlate
    from service.transport.limits import SlateLimits

    limits = SlateLimits.of(dependencies.settings)
    serving = dependencies.selection.pick(None)
    rows = Rows(serving.artifact.vocabulary)
    reader = ScoreReader(Functions(), limits.candidates, limits.recent)
    raws = [body.encode() for body in bodies]
    read = reader.read(raws[0])
    if read is None:
        raise ValueError("body: got one that C declines, expected a common one")
    schema = serving.artifact.manifest.schema
    context = np.full(len(schema.context_fields), UNKNOWN, np.int64)
    items, fields = rows.items(read.ids), rows.fields(read.fields, len(read.ids))
    slate = EngineSlate(serving.scorer.cold_start, np.zeros(0, np.int64), context, items, fields)
    engine = serving.scorer.choice.engine
    scores = np.random.default_rng(0).random(len(items))
    return {
        "body, by C": _micros(lambda raw: reader.read(raw), raws),
        "body, by pydantic": _micros(lambda raw: parse_request(ScoreRequest, raw, limits), raws),
        "ids to rows": _micros(lambda _: rows.items(read.ids), raws),
        "fields to ids": _micros(lambda _: rows.fields(read.fields, len(items)), raws),
        f"engine ({engine.name}), cold-start state": _micros(
            lambda _: engine.score_many([slate]), raws
        ),
        "scores to JSON": _micros(
            lambda _: orjson.dumps(scores, option=orjson.OPT_SERIALIZE_NUMPY), raws
        ),
    }


def _micros(part: Any, raws: list[bytes]) -> float:
    began_s = time.perf_counter()
    for raw in raws:
        part(raw)
    return 1e6 * (time.perf_counter() - began_s) / len(raws)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        loop = importlib.import_module("service.process.event_loop").BoundedLoop
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(serve(json.loads(Path(sys.argv[2]).read_text())))
    else:
        main()
