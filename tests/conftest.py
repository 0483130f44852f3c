"""Fixtures that several folders share."""

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from tests.tiers import tier_of

if TYPE_CHECKING:
    from tests.builds import Builds

E2E = "tests/e2e/"

# Tests compute little at a time: on a busy machine, several threads would mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No deadline: a busy machine is not a failure. Fewer draws than usual: all tests have to end within 15 minutes.
# The same draws in each run, so that a change is judged by what it changes. `make fuzz` looks for more.
hypothesis.settings.register_profile("absorb", deadline=None, max_examples=40, derandomize=True)
# `make fuzz`: different draws in each run, for minutes.
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=3000, derandomize=False)
# `make mutants`: the same draws for every mutant, and no search for the smallest failing one.
hypothesis.settings.register_profile(
    "mutants",
    deadline=None,
    max_examples=20,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile("absorb")


class ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """A file's tests run in one process, and so do all of `e2e`, which share builds that take minutes."""

    def _split_scope(self, nodeid: str) -> str:
        return E2E if nodeid.startswith(E2E) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile | None:
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(tier_of(item.nodeid, getattr(item, "fixturenames", ())))


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """beartype checks one element of a list, drawn with `random`: the same one in each run."""
    random.seed(0)


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> "Builds":
    from tests.builds import Builds  # here: it imports torch, and most tests need none

    folder = tmp_path_factory.getbasetemp()
    # xdist gives each process a folder of its own in a common one.
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    return Builds(shared / "builds" / "artifacts")


@pytest.fixture(scope="session")
def native_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared library of `service/native/`, compiled from this checkout's sources."""
    from service.native.compile import compile_library

    return compile_library(tmp_path_factory.mktemp("native") / "libabsorb_native.so")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
