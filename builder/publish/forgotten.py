"""Forgotten users as a build sees them: their tombstones, with a copy, and what a publish leaves out.

A cache is made to be built again, and tombstones are not: without them, the next build would bring every forgotten user
back. So each reader keeps a copy (`<runs>/.forgotten.json`, hashes and times for each cache), and writes it back to a
cache that has lost them all.
"""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from builder.errors import StepError
from builder.publish.cache import CacheClient, cache_errors, connect_cache
from models.contract.cache_url import embedded_folder, redact_url
from models.contract.errors import CacheUnavailableError
from models.live.tombstones import Tombstones, count_tombstones, read_tombstones, restore

logger = logging.getLogger(__name__)

COPY = ".forgotten.json"
OPTION = "--without-tombstones"
CLOCKS_DIFFER_S = 300
"""Most seconds that the clocks of a builder and of who forgets a user may differ."""


def tombstones_of_build(url: str, runs: Path) -> Tombstones:
    """Tombstones of the cache that a build publishes to.

    Args:
        url: of the cache.
        runs: folder of all runs, which holds the copy.

    Raises:
        StepError: the cache does not answer; the error names the choice.
    """
    folder = embedded_folder(url)
    if (
        folder is not None
        and not (folder / "server.lock").exists()
        and not _copied(url, runs).times
    ):
        return (
            Tombstones()
        )  # no server has ever run there: none is started to learn that it is empty
    try:
        with connect_cache(url) as client:
            return tombstones_of_cache(client, url, runs)
    except CacheUnavailableError as error:
        raise StepError(
            f"ingest: the forgotten users cannot be read: {error}; start the cache, or build with {OPTION}, which may "
            "train on forgotten users (a publish leaves them out in any case)"
        ) from error


def tombstones_of_cache(client: CacheClient, url: str, runs: Path) -> Tombstones:
    """Read the tombstones, and keep the copy of them; a cache that has lost them gets the copy back.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    copied = _copied(url, runs)
    with cache_errors(client):
        tombstones = read_tombstones(client)
        if copied.times and not (tombstones.times or tombstones.lifted):
            logger.warning(
                "the cache has lost the tombstones of %d forgotten users; they are written back from %s",
                len(copied.times),
                runs / COPY,
            )
            restore(client, copied)
            return copied
    if tombstones != copied:
        _keep(tombstones, url, runs)
    return tombstones


def _copied(url: str, runs: Path) -> Tombstones:
    """The copy for a cache; empty where there is none, or the file cannot be read."""
    entry = _entries(runs).get(redact_url(url))
    if not isinstance(entry, dict):
        return Tombstones()
    return Tombstones(dict(entry.get("times", {})), tuple(entry.get("lifted", ())))


def _entries(runs: Path) -> dict[str, object]:
    try:
        entries = json.loads((runs / COPY).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _keep(tombstones: Tombstones, url: str, runs: Path) -> None:
    entry = {"times": dict(tombstones.times), "lifted": list(tombstones.lifted)}
    runs.mkdir(parents=True, exist_ok=True)
    staged = runs / f"{COPY}.{os.getpid()}.new"
    staged.write_text(json.dumps({**_entries(runs), redact_url(url): entry}, indent=1))
    staged.chmod(0o600)
    staged.replace(runs / COPY)


class LeftOut:
    """Leaves the records of forgotten users out of a publish, also of those who are forgotten while it writes."""

    def __init__(self, client: CacheClient) -> None:
        self._client = client
        self._size = -1
        self._tombstones = Tombstones()
        self._refresh()

    def named(self, batch: Sequence[str]) -> list[str]:
        """Users of a batch who were forgotten when the tombstones were read last."""
        return self._tombstones.named(batch)

    def named_since(self, batch: Sequence[str]) -> list[str]:
        """Users of a batch that has been written who were forgotten meanwhile: their records have to be removed."""
        return self.named(batch) if self._refresh() else []

    def _refresh(self) -> bool:
        """Read the tombstones again if their number has changed; whether it has."""
        with cache_errors(self._client):
            size = count_tombstones(self._client)
            if size == self._size:
                return False
            self._tombstones = read_tombstones(self._client)
        self._size = size
        return True


def removed_since(client: CacheClient, created_s: int) -> int:
    """Most records that forgetting can have removed from a generation that was created at `created_s`.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    with cache_errors(client):
        return read_tombstones(client).since(created_s - CLOCKS_DIFFER_S)
