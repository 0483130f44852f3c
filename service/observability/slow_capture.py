"""Captures slow requests for inspection and replay: in a bounded ring buffer, and in a file if a folder is set.

A captured request includes its body and its answer, and so a user id. Therefore capture is off unless a threshold is
set, only administrators may read the ring buffer, and only the process's own user may read the file. `absorb replay
FILE` sends the requests again. Each capture names its users by hashes, too, so that those of a forgotten user can be
found and removed (`forget`).
"""

import asyncio
import errno
import logging
import os
import time
from base64 import b64encode
from collections import deque
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry, Counter
from starlette.types import Message, Receive, Scope, Send

from models.live.captures import (
    BEFORE,
    FILE,
    USERS,
    clean_file,
    clean_folder,
    locked,
    users_of_file,
)
from models.live.keys import tombstone
from service.observability.request_context import RequestContext

CAPTURED = ("/v1/score", "/v1/compare", "/v2/models/")
"""Requests to paths with these prefixes are captured."""
MAX_KEPT = 128
MAX_RECORD_BYTES = 1 << 20
"""A longer request is captured without its body and its answer."""
MAX_KEPT_BYTES = 8 << 20
MAX_FILE_BYTES = 8 << 20
"""Size at which the file is rotated; one older file is kept."""
MAX_WAITING = 64
MAX_FORGOTTEN = 100_000
"""Most users that a process knows to be forgotten, about 15 MB; the oldest are dropped."""
ONE_USER = ("/v1/score", "/v1/compare")
"""Paths of requests that name one user."""
HEADERS = (b"content-type", b"content-encoding", b"inference-header-content-length")
"""Headers that are needed to parse a body."""

log = logging.getLogger(__name__)
Json = dict[str, object]


@dataclass(frozen=True)
class Kept:
    """A captured request.

    Attributes:
        line: JSON object.
        users: `tombstone` of each user that it names; None: unknown, since it was refused before.
    """

    line: bytes
    users: Sequence[str] | None

    def concerns(self, forgotten: Container[str]) -> bool:
        """Whether it is of a forgotten user, or may be."""
        return self.users is None or any(user in forgotten for user in self.users)


class Capture:
    """Body of one request and of its answer: references to the bytes that pass through, not copies."""

    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.answer: list[bytes] = []

    def between(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Wrap both ASGI callables so that the bodies are recorded."""

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
    """Metrics of captured requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.kept = Counter(
            "absorb_slow_requests",
            "Requests slower than ABSORB_SLOW_MS.",
            ["route"],
            registry=registry,
        )
        self.dropped = Counter(
            "absorb_slow_dropped",
            "Slow requests that could not be written to the file.",
            registry=registry,
        )


class SlowRequests:
    """Captures requests that are slower than the threshold.

    Attributes:
        is_on: whether any request is captured.
    """

    def __init__(
        self, threshold_ms: float | None, folder: Path | None, metrics: SlowMetrics
    ) -> None:
        """Start with an empty ring buffer.

        Args:
            threshold_ms: a request that takes less is not captured; None captures none.
            folder: folder of the file; None writes none.
            metrics: metrics of captured requests.
        """
        self.is_on = threshold_ms is not None
        self._threshold_s = None if threshold_ms is None else threshold_ms / 1000
        self._folder = folder
        self._metrics = metrics
        self._kept: deque[Kept] = deque(maxlen=MAX_KEPT)
        self._forgotten: dict[str, None] = {}
        self._num_bytes = 0
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="slow")

    @property
    def lines(self) -> list[bytes]:
        """The captured requests in the ring buffer, latest first, as JSON objects."""
        return [kept.line for kept in reversed(self._kept)]

    def capture(self, path: str) -> Capture | None:
        """Recorder for a request's bytes; None if requests to this path are not captured."""
        return Capture() if self.is_on and path.startswith(CAPTURED) else None

    def finish(
        self,
        capture: Capture,
        scope: Scope,
        route: str,
        status: int,
        took_s: float,
        request: RequestContext,
    ) -> None:
        """Capture the request if it was slow.

        Args:
            capture: bodies of request and answer.
            scope: ASGI scope of the request.
            route: route template that answered.
            status: HTTP status of the answer.
            took_s: seconds from request to answer.
            request: context of the request.
        """
        if self._threshold_s is None or took_s < self._threshold_s:
            return
        self._metrics.kept.labels(route).inc()
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        record: Json = {
            "at_s": round(time.time() - took_s, 3),
            "method": scope["method"],
            "path": scope["path"],
            "query": scope.get("query_string", b"").decode("latin-1"),
            "route": route,
            "status": status,
            "request_id": request.request_id,
            "trace_id": request.trace_id,
            "model": request.model,
            "generation": request.generation,
            "source": request.source,
            "took_ms": round(1000 * took_s, 3),
            "stages_ms": {stage: round(1000 * s, 3) for stage, s in request.stages.items()},
        }
        users = _users(scope["path"], status, request)
        if users is not None:
            record[USERS] = users
        self._keep(Kept(_line(record, headers, capture), users))

    def forget(self, user: str, file: Path | None = None) -> None:
        """Remove a user's requests, and those whose users are unknown, and capture none of the user any more.

        Args:
            user: `tombstone` of the user.
            file: another file of captured requests; None: there is none.
        """
        self._forgotten[user] = None
        if len(self._forgotten) > MAX_FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]
        kept = [one for one in self._kept if not one.concerns({user})]
        self._kept = deque(kept, maxlen=MAX_KEPT)
        self._num_bytes = sum(len(one.line) for one in kept)
        # In the thread that writes: what waits there is written first.
        self._thread.submit(_clean, self._folder, file, user)

    async def users(self, file: Path | None = None) -> list[str]:
        """`tombstone` of each user of a captured request that is kept, in memory or in files.

        Args:
            file: another file of captured requests; None: there is none.

        Raises:
            OSError: a file cannot be read.
        """
        in_memory = {user for kept in self._kept for user in kept.users or ()}
        files = [file] if file is not None else []
        if self._folder is not None:
            files += [self._folder / FILE, self._folder / BEFORE]
        loop = asyncio.get_running_loop()
        for path in files:
            in_memory |= await loop.run_in_executor(self._thread, users_of_file, path)
        return sorted(in_memory)

    def _keep(self, kept: Kept) -> None:
        line = kept.line
        if kept.users and kept.concerns(self._forgotten):
            return
        if len(self._kept) == MAX_KEPT:
            self._num_bytes -= len(self._kept.popleft().line)
        self._kept.append(kept)
        self._num_bytes += len(line)
        while self._num_bytes > MAX_KEPT_BYTES:
            self._num_bytes -= len(self._kept.popleft().line)
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
            log.warning("slow request could not be written", extra={"error": str(error)})
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Write the waiting requests, then stop the thread."""
        self._thread.shutdown(wait=True)


def append(folder: Path, line: bytes) -> None:
    """Append a line to the folder's file, and rotate the file when it is full.

    Each line is a single write at the end of the file, so several processes can share it. A full disk or a killed
    process can leave part of a line at the end; the next line then starts on a new one.

    Raises:
        OSError: the line could not be written whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _append(folder, line)


def _append(folder: Path, line: bytes) -> None:
    path = folder / FILE
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(file).st_size
        whole = line if size == 0 or os.pread(file, 1, size - 1) == b"\n" else b"\n" + line
        written = os.write(file, whole)
        if written < len(whole):
            raise OSError(errno.ENOSPC, f"wrote {written} of {len(whole)} bytes", str(path))
        is_full = os.fstat(file).st_size > MAX_FILE_BYTES
    finally:
        os.close(file)
    if is_full:
        path.replace(folder / BEFORE)


def _clean(folder: Path | None, file: Path | None, user: str) -> None:
    """Remove a user's requests from files, and those whose users are unknown."""
    try:
        num_lines = clean_folder(folder, [user]) if folder is not None else 0
        num_lines += clean_file(file, [user]) if file is not None else 0
    except OSError as error:
        log.warning(
            "captured requests could not be removed", extra={"user": user, "error": str(error)}
        )
        return
    if num_lines:
        log.info("captured requests removed", extra={"user": user, "lines": num_lines})


def _users(path: str, status: int, request: RequestContext) -> list[str] | None:
    """Hashes of a request's users; None: of a request of several users that failed, not all may be known."""
    is_whole = status < 400 or path in ONE_USER
    return [tombstone(user) for user in request.users] if is_whole and request.users else None


def _line(record: Json, headers: Sequence[tuple[bytes, bytes]], capture: Capture) -> bytes:
    kept = {name.decode(): value.decode("latin-1") for name, value in headers if name in HEADERS}
    size = sum(map(len, capture.body)) + sum(map(len, capture.answer))
    if size > MAX_RECORD_BYTES:
        return orjson.dumps({**record, "too_long_bytes": size}) + b"\n"
    body = {"headers": kept, **_text("body", capture.body), **_text("answer", capture.answer)}
    return orjson.dumps({**record, **body}) + b"\n"


def _text(name: str, chunks: list[bytes]) -> Json:
    """A body as text if it is UTF-8, else in base64 under the name with `_base64`."""
    whole = b"".join(chunks)
    try:
        return {name: whole.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(whole).decode()}
