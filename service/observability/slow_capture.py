"""Slow requests, kept to be looked at and asked again: in a bounded ring, and in a bounded file if a folder is set.

A kept request holds its body and its answer, so it names its user: it is off unless a threshold is set, only admins may
read the ring, and only the process's own user may read the file. `python -m service.tools.replay FILE` asks them again.
"""

import logging
import os
import time
from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry, Counter
from starlette.types import Message, Receive, Scope, Send

from service.observability.request_context import RequestContext

CAPTURED = ("/v1/score", "/v1/compare", "/v2/models/")
"""Beginnings of the paths whose requests are kept."""
MAX_KEPT = 128
MAX_RECORD_BYTES = 1 << 20
"""A longer one is kept without its body and its answer."""
MAX_KEPT_BYTES = 8 << 20
MAX_FILE_BYTES = 8 << 20
"""Of the file, and again of the one before it."""
MAX_WAITING = 64
FILE, BEFORE = "slow.jsonl", "slow.1.jsonl"
HEADERS = (b"content-type", b"content-encoding", b"inference-header-content-length")
"""Without which a body cannot be read."""

log = logging.getLogger(__name__)
Json = dict[str, object]


class Capture:
    """Bytes of one request and of its answer, noted as they pass by: references, no copies."""

    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.answer: list[bytes] = []

    def between(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """The same two, with an ear on them."""

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self.body.append(message.get("body", b""))
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.body":
                self.answer.append(message.get("body", b""))
            await send(message)

        return received, sent


class SlowMetrics:
    """What was slow."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.kept = Counter(
            "absorb_slow_requests", "Requests slower than the threshold.", ["route"],
            registry=registry,
        )  # fmt: skip
        self.dropped = Counter(
            "absorb_slow_dropped", "Slow requests that the file does not hold.", registry=registry
        )


class SlowRequests:
    """Keeps what was slower than the threshold."""

    def __init__(
        self, threshold_ms: float | None, folder: Path | None, metrics: SlowMetrics
    ) -> None:
        """Begin with none.

        Args:
            threshold_ms: what takes less is not kept; None: nothing is.
            folder: of the file; None: there is none.
            metrics: counts.
        """
        self._threshold_s = None if threshold_ms is None else threshold_ms / 1000
        self._folder = folder
        self._metrics = metrics
        self._kept: deque[bytes] = deque(maxlen=MAX_KEPT)
        self._num_bytes = 0
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="slow")

    @property
    def lines(self) -> list[bytes]:
        """What is kept, latest first: a JSON object each."""
        return list(reversed(self._kept))

    def capture(self, path: str) -> Capture | None:
        """What notes a request's bytes; None if it cannot be kept."""
        is_on = self._threshold_s is not None
        return Capture() if is_on and path.startswith(CAPTURED) else None

    def finish(
        self,
        capture: Capture,
        scope: Scope,
        route: str,
        status: int,
        took_s: float,
        about: RequestContext,
    ) -> None:
        """Keep the request if it was slow.

        Args:
            capture: its bytes.
            scope: of the request.
            route: that answered it.
            status: of the answer.
            took_s: seconds from the one to the other.
            about: what else is known.
        """
        if self._threshold_s is None or took_s < self._threshold_s:
            return
        self._metrics.kept.labels(route).inc()
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        record: Json = {
            "at_s": round(time.time() - took_s, 3), "method": scope["method"], "path": scope["path"],
            "query": scope.get("query_string", b"").decode("latin-1"), "route": route, "status": status,
            "request_id": about.request_id, "trace_id": about.trace_id, "model": about.model,
            "generation": about.generation, "source": about.source, "took_ms": round(1000 * took_s, 3),
            "stages_ms": {stage: round(1000 * s, 3) for stage, s in about.stages.items()},
        }  # fmt: skip
        self._keep(_line(record, headers, capture))

    def _keep(self, line: bytes) -> None:
        if len(self._kept) == MAX_KEPT:
            self._num_bytes -= len(self._kept.popleft())
        self._kept.append(line)
        self._num_bytes += len(line)
        while self._num_bytes > MAX_KEPT_BYTES:
            self._num_bytes -= len(self._kept.popleft())
        if self._folder is None:
            return
        if self._waiting >= MAX_WAITING:
            self._metrics.dropped.inc()
            return
        self._waiting += 1
        self._thread.submit(self._write, self._folder, line)

    def _write(self, folder: Path, line: bytes) -> None:
        try:
            append(folder, line)
        except OSError as error:
            self._metrics.dropped.inc()
            log.warning("slow request not written", extra={"error": str(error)})
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Write what waits, and let go of the thread."""
        self._thread.shutdown(wait=True)


def append(folder: Path, line: bytes) -> None:
    """Write a line to the folder's file; a full one first becomes the one before it.

    Each line is one write at the end of the file, so that several processes may share it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
        is_full = os.fstat(file).st_size > MAX_FILE_BYTES
    finally:
        os.close(file)
    if is_full:
        path.replace(folder / BEFORE)


def _line(record: Json, headers: Sequence[tuple[bytes, bytes]], capture: Capture) -> bytes:
    kept = {name.decode(): value.decode("latin-1") for name, value in headers if name in HEADERS}
    size = sum(map(len, capture.body)) + sum(map(len, capture.answer))
    if size > MAX_RECORD_BYTES:
        return orjson.dumps({**record, "too_long_bytes": size}) + b"\n"
    body = {"headers": kept, **_text("body", capture.body), **_text("answer", capture.answer)}
    return orjson.dumps({**record, **body}) + b"\n"


def _text(name: str, chunks: list[bytes]) -> Json:
    """As text where it is UTF-8, else in base64 under another name."""
    whole = b"".join(chunks)
    try:
        return {name: whole.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(whole).decode()}
