"""A cache with a published generation, a service and a worker over it, all of their own, for the measurement."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.contract.artifact import Artifact, load_artifact
from models.contract.embedded_cache import start_server, stop_server
from models.contract.generation import (
    MODELS_KEY,
    Generation,
    Pointer,
    pointer_key,
)
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from models.live.history import BaseHistory, encode_history
from models.live.keys import history_key
from models.live.refold import refold
from service.follow.graph import load_folder
from service.tools.follow import connect
from service.tools.running_service import running_service
from service.tools.running_worker import running_worker

MODEL = "fresh"
DAY_S = 86_400
CHUNK = 200
"""Users that are published together."""


@dataclass(frozen=True)
class World:
    """A published generation with base histories.

    Attributes:
        url: of the cache.
        client: redis-py's.
        artifact: what made the records.
        root: folder of the artifact's folder.
        generation: what serves.
        users: raw ids of the users with a record.
    """

    url: str
    client: Any
    artifact: Artifact
    root: Path
    generation: Generation
    users: tuple[str, ...]

    def items(self, rng: np.random.Generator, number: int) -> list[str]:
        """Random items of the catalogue."""
        known = self.artifact.vocabulary.items
        return [known[place] for place in rng.integers(0, len(known), number)]


@contextmanager
def published(folder: Path, num_users: int, seed: int = 0) -> Iterator[World]:
    """Start a cache, and publish users with random histories of the artifact's full length.

    Args:
        folder: folder of the artifact.
        num_users: number of users.
        seed: of the histories.

    Raises:
        ArtifactError: the artifact cannot be used.
        CacheUnavailableError: the cache does not start.
    """
    artifact = load_artifact(folder.parent, folder.name)
    cache = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    url = f"unix://{start_server(cache)}"
    try:
        client = connect(url)
        users = tuple(f"user-{number}" for number in range(num_users))
        generation = _publish(client, folder.parent, artifact, users, seed)
        yield World(url, client, artifact, folder.parent, generation, users)
        client.close()
    finally:
        stop_server(cache)
        shutil.rmtree(cache, ignore_errors=True)


def _publish(
    client: Any, root: Path, artifact: Artifact, users: tuple[str, ...], seed: int
) -> Generation:
    as_of_s = artifact.manifest.as_of_s
    now = datetime.now(UTC)
    generation = Generation(
        MODEL, f"{now:%Y%m%dT%H%M%SZ}-000000", artifact.artifact_id, len(users), as_of_s,
        int(now.timestamp()), "fp32",
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    target = load_folder(root, artifact.artifact_id).target(generation, creates=True)
    for start in range(0, len(users), CHUNK):
        part = users[start : start + CHUNK]
        with client.pipeline(transaction=False) as pipeline:
            for user in part:
                history = _history(artifact, user, target.length, rng)
                pipeline.set(history_key(generation, user), encode_history(history))
            pipeline.execute()
        refold(client, target, part)
    client.sadd(MODELS_KEY, MODEL)
    client.set(pointer_key(MODEL), Pointer(generation, None).to_bytes())
    return generation


def _history(artifact: Artifact, user: str, length: int, rng: np.random.Generator) -> BaseHistory:
    schema, as_of_s = artifact.manifest.schema, artifact.manifest.as_of_s
    known = len(artifact.vocabulary.items)
    return BaseHistory(
        user,
        artifact.artifact_id,
        as_of_s,
        np.full(len(schema.user_fields), UNKNOWN, np.int32),
        rng.integers(FIRST_KNOWN, FIRST_KNOWN + known, length).astype(np.int32),
        np.sort(as_of_s - 1 - rng.integers(0, 90 * DAY_S, length)),
    )


def variables(world: World) -> Mapping[str, str]:
    """Settings of the service and of the worker."""
    return {
        "ABSORB_CACHE_URL": world.url,
        "ABSORB_ARTIFACT_DIR": str(world.root.resolve()),
        "ABSORB_LOG_LEVEL": "WARNING",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def serving(world: World, log: Path) -> Iterator[str]:
    """The service as a process; yields its URL."""
    before = dict(os.environ)
    os.environ.update(variables(world))
    try:
        with running_service(log) as url:
            yield url
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def following(world: World, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker as a process."""
    with running_worker(log, variables(world)) as process:
        yield process
