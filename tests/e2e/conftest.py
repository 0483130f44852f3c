"""Fixtures: what costs seconds is built once, each test has a cache of its own."""

from collections.abc import Iterator

import pytest

from tests.e2e.killing import KilledBuild, build_through_kills
from tests.e2e.world import Cache, FirstBuild, build_first, cache_server


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> FirstBuild:
    return build_first(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="session")
def killed(first: FirstBuild, tmp_path_factory: pytest.TempPathFactory) -> KilledBuild:
    with cache_server() as cache:
        return build_through_kills(first, cache, tmp_path_factory.mktemp("killed"))


@pytest.fixture
def cache() -> Iterator[Cache]:
    with cache_server() as cache:
        yield cache
