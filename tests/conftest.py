"""Fixtures that several folders share."""

import pytest

from tests.builds import Builds


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    return Builds(tmp_path_factory.mktemp("builds") / "artifacts")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
