"""One real cache server for the tests of a file, emptied for each test, and one finished build for all tests."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.pipeline import Build
from builder.publish.cache import CacheClient, connect_cache
from builder.recipe.models import ModelChoice
from builder.run_folder import RunFolder
from models.contract.embedded_cache import stop_server
from tests.builder.finished import finished_build
from tests.builds import small_recipe

MODEL = ModelChoice("lrea", {"rank": 8, "slots": "hash", "mlp": [16, 8], "hidden": 8, "heads": 2})


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


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """A build with all steps done. Tests must not change it; `build` is a copy that they may change."""
    recipe = replace(small_recipe(), model=MODEL)
    with finished_build(recipe, tmp_path_factory.mktemp("finished")) as build:
        yield build


@pytest.fixture
def build(finished: Build, tmp_path: Path) -> Build:
    """A copy of the finished build, over the same cache."""
    shutil.copytree(finished.folder.path, tmp_path / "run")
    shutil.copytree(finished.artifacts, tmp_path / "artifacts")
    return replace(finished, folder=RunFolder(tmp_path / "run"), artifacts=tmp_path / "artifacts")
