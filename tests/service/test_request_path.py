"""The files of one request, from the socket to the run of the score graph, as docs/concepts lists them.

Every Python call of a real request is traced, on the event loop and in the worker threads, until the engine runs. A
file is entered when one of its functions is called from another file of the service; calls of several of its functions
in a row are one entry.
"""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from service.process.cores import num_cores
from service.runtime.workers import Workers
from tests.service.toy import Toy
from tests.service.world import World

SERVICE = Path(__file__).parents[2] / "service"
PAGE = SERVICE.parent / "docs" / "concepts" / "life-of-a-request.md"
MAX_FILES = 10
ENGINES = "runtime/engines/"
"""The route ends where the engine begins."""

Entries = list[tuple[str, str]]


class Trace:
    """Notes each entry into a file of the service, as (file, function), until the engine runs."""

    def __init__(self) -> None:
        self.entries: Entries = []
        self._has_run = False
        self._frames: list[FrameType] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or self._has_run:
            return
        self._has_run = "onnxruntime" in frame.f_code.co_filename
        if frame.f_code.co_name == "__len__":  # of a list of ids: no step of the request
            return
        file = _service_file(frame)
        if file is None or frame in self._frames:  # resuming a coroutine is a call, too
            return
        self._frames.append(frame)
        # Tasks and threads have no caller in the service: the file that was entered last has started them.
        last = self.entries[-1][0] if self.entries else None
        # Making a context manager and entering it are two calls into one file, one after the other.
        if file not in (_caller(frame) or last, last):
            self.entries.append((file, frame.f_code.co_qualname.rpartition("<locals>.")[2]))

    @contextmanager
    def on(self, workers: Workers) -> Iterator[None]:
        """Trace this thread and the worker threads."""
        _set_profile(self, workers)
        try:
            yield
        finally:
            _set_profile(None, workers)


def _set_profile(profile: Trace | None, workers: Workers) -> None:
    num_workers = num_cores()
    barrier = threading.Barrier(num_workers)

    def in_worker() -> None:
        barrier.wait(10)  # so that each thread does this once
        sys.setprofile(profile)

    for future in [workers.submit(in_worker) for _ in range(num_workers)]:
        future.result()
    sys.setprofile(profile)


def _service_file(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    return str(path.relative_to(SERVICE)) if path.is_relative_to(SERVICE) else None


def _caller(frame: FrameType) -> str | None:
    before = frame.f_back
    while before is not None:
        if (file := _service_file(before)) is not None:
            return file
        before = before.f_back
    return None


def listed(heading: str) -> Entries:
    """Entries that the page lists under a heading."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    return re.findall(r"^\d+\. `(.+?)`: `(.+?)`", section, re.M)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def library(native_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(native_library))


@pytest.mark.anyio
async def test_a_request_enters_the_files_that_the_page_lists_each_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A traced request is slow: without this the service would begin to look whether its client is still there.
    monkeypatch.setattr("service.transport.disconnect.WATCH_AFTER_S", 60.0)
    world.publish(Toy())
    trace = Trace()
    async with world.service(num_threads=1, inline_ms=60_000.0) as service:
        await service.score()
        with trace.on(service.workers):
            await service.score()

    before, route = listed("Before the route"), listed("From the route to the engine")
    assert trace.entries == before + route
    files = [file for file, _ in trace.entries]
    assert len(set(files)) == len(files)
    assert len([file for file, _ in route if not file.startswith(ENGINES)]) <= MAX_FILES


@pytest.mark.anyio
async def test_the_first_request_for_a_user_also_enters_the_files_that_the_page_names(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.transport.disconnect.WATCH_AFTER_S", 60.0)
    world.publish(Toy())
    trace = Trace()
    async with world.service(num_threads=1, inline_ms=60_000.0) as service:
        await service.score("bob")
        with trace.on(service.workers):
            await service.score()

    more = {file for file, _ in trace.entries}
    more -= {
        file for file, _ in listed("Before the route") + listed("From the route to the engine")
    }
    (sentence,) = re.findall(r"^- The first request(.*?)(?=^- )", PAGE.read_text(), re.M | re.S)
    assert more == set(re.findall(r"`([a-z_/]+\.py)`", sentence))
