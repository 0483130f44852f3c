"""One real server for the tests of a file, empty for each of them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cache import CacheClient, connect_cache
from models.cache_server import stop_server


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    yield folder
    stop_server(folder)
    shutil.rmtree(folder)


@pytest.fixture
def client(server: Path) -> Iterator[CacheClient]:
    with connect_cache(f"embedded:{server}") as client:
        client.flushall()
        yield client
        client.config_set("maxmemory", 0)
