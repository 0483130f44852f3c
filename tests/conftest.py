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
hypothesis.settings.load_profile("absorb")


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> "Builds":
    from tests.builds import Builds  # here: it imports torch, and most tests need none

    return Builds(tmp_path_factory.mktemp("builds") / "artifacts")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
