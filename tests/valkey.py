"""A real cache server for the tests of a file."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from models.contract.embedded_cache import start_server, stop_server


@contextmanager
def running_server() -> Iterator[str]:
    """Start an empty server; gives its URL."""
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    yield f"unix://{start_server(folder)}"
    stop_server(folder)
    shutil.rmtree(folder)


@contextmanager
def emptied(url: str) -> Iterator[Redis]:
    """A client of a server, which is emptied first."""
    with Redis.from_url(url) as client:
        client.flushall()
        yield client
