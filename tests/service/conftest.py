"""Fixtures: one cache server for all tests that do not stop it, emptied before each."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.contract.embedded_cache import start_server, stop_server
from tests.service.world import World


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_cache() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    yield f"unix://{start_server(folder)}"
    stop_server(folder)
    shutil.rmtree(folder)


@pytest.fixture
def world(shared_cache: str, tmp_path: Path) -> World:
    world = World(shared_cache, tmp_path / "artifacts")
    with world.redis as client:
        client.flushall()
    return world


@pytest.fixture
def own_cache() -> Iterator[Path]:
    """Folder of a server that the test may stop."""
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    start_server(folder)
    yield folder
    stop_server(folder)
    shutil.rmtree(folder)
