"""One real cache server for the tests of a file, emptied for each test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from models.contract.embedded_cache import start_server, stop_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    yield f"unix://{start_server(folder)}"
    stop_server(folder)
    shutil.rmtree(folder)


@pytest.fixture
def client(server: str) -> Iterator[Redis]:
    with Redis.from_url(server) as client:
        client.flushall()
        yield client
