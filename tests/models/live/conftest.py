"""One real cache server for the tests of a file, emptied for each test."""

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.valkey import emptied, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server() as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[Redis]:
    with emptied(server) as client:
        yield client
