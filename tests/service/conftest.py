"""Fixtures: one cache server for all tests that do not stop it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.contract.embedded_cache import start_server, stop_server
from tests.service.world import World


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_cache() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    yield f"unix://{start_server(folder)}"
    stop_server(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def module_world(shared_cache: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """For a service that several tests of a module share; `world` empties its cache, not the service's memory."""
    return _empty(World(shared_cache, tmp_path_factory.mktemp("artifacts")))


@pytest.fixture
def world(shared_cache: str, tmp_path: Path) -> World:
    """Of one test, with an empty cache."""
    return _empty(World(shared_cache, tmp_path / "artifacts"))


def _empty(world: World) -> World:
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
