"""Fixtures of the protocol's tests: the service's world is theirs too, and the servers that clients talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import anyio_backend, shared_cache, world
from tests.service.v2.targets import Target, absorb, needs, triton

__all__ = ["anyio_backend", "shared_cache", "world"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--v2-url", help="host:port of another V2 server to run the shared tests on")


@pytest.fixture(scope="module", params=["absorb", pytest.param("triton", marks=needs("triton"))])
def target(
    request: pytest.FixtureRequest, shared_cache: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """A server that must conform to the protocol."""
    other: str | None = request.config.getoption("--v2-url", None)
    folder: Path = tmp_path_factory.mktemp(request.param)
    if other is not None:
        if request.param == "triton":
            pytest.skip("--v2-url names the server")
        yield Target(other.removeprefix("http://"), "other")
        return
    with absorb(shared_cache, folder) if request.param == "absorb" else triton(folder) as started:
        yield started


@pytest.fixture
def ours(target: Target) -> Target:
    """This service; other servers do not do all that it promises."""
    if not target.is_ours:
        pytest.skip("a promise of this service")
    return target
