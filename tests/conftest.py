"""Fixtures that several folders share."""

import os
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.builds import Builds

# Tests compute little at a time: on a busy machine threads would mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No deadline: a busy machine is no failure.
hypothesis.settings.register_profile("absorb", deadline=None)
# `make fuzz`: minutes of other draws in each run.
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=3000)
hypothesis.settings.load_profile("absorb")


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> "Builds":
    from tests.builds import Builds  # here: it imports torch, and most tests need none

    folder = tmp_path_factory.getbasetemp()
    # xdist gives each process a folder of its own in a common one.
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    return Builds(shared / "builds" / "artifacts")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
