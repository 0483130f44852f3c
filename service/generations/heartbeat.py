"""Heartbeat: announces in the cache which generations this service serves, and why it does not serve another.

A rolling publish waits until every live service has loaded the new artifact before it overwrites records. Every publish
waits until all of them serve the new generation, and names those that do not.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Collection
from contextlib import suppress

from models.contract.announcement import Announcement
from models.contract.errors import AbsorbError
from service.generations.selection import Selection
from service.store.redis import StateStore

TTL_S = 30
"""Seconds for which an announcement counts. A rolling publish waits up to this long for a service that has died."""

RETIRED_TTL_S = 1

log = logging.getLogger(__name__)


class Heartbeat:
    """Writes this service's announcement (`Announcement`)."""

    def __init__(self, store: StateStore, selection: Selection, ttl_s: int = TTL_S) -> None:
        """Announce nothing yet.

        Args:
            store: the cache.
            selection: what serves now.
            ttl_s: seconds after which the cache drops an announcement that is not renewed.
        """
        self._store = store
        self._selection = selection
        self._ttl_s = ttl_s
        self._service = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._published: set[str] = set()
        self._announced: set[str] = set()
        self._writing = asyncio.Lock()
        self._is_write_refused = False

    async def run(self) -> None:
        """Renew the announcement until cancelled, also while a load takes long: a silent service counts as dead."""
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            try:
                await self.announce()
            except Exception:  # outermost handler: the task must not end while the service runs
                log.exception("announcing the loaded generations failed")

    def note_published(self, models: Collection[str]) -> None:
        """Take the names of all published models: the announcement covers them, except the unloaded ones."""
        self._published = set(models)

    @property
    def is_incomplete(self) -> bool:
        """Whether the last announcement lacks a model that this service serves or will load."""
        return not self._announced.issuperset(self._models())

    async def announce(self) -> None:
        """Write the announcement. A cache that refuses the write is logged once: serving needs no right to write."""
        async with self._writing:  # one at a time: the last written is the newest
            loaded = {model: self._generation(model) for model in self._models()}
            unloaded = self._published - loaded.keys()
            announcement = Announcement(
                loaded, unloaded, self._selection.problems, self._selection.default_model
            )
            try:
                await self._store.announce(self._service, announcement.to_bytes(), self._ttl_s)
            except AbsorbError as error:
                if not self._is_write_refused:
                    extra = {"error": str(error)}
                    log.warning("cannot announce the loaded generations", extra=extra)
                self._is_write_refused = True
                return
            self._is_write_refused = False
            self._announced = set(loaded)

    async def retire(self) -> None:
        """Let the announcement expire within a second: a publish need not wait for a service that has ended."""
        with suppress(AbsorbError):  # it expires anyway
            await self._store.announce(self._service, Announcement({}).to_bytes(), RETIRED_TTL_S)

    def _models(self) -> set[str]:
        return {model for model in self._published if not self._selection.is_unloaded(model)}

    def _generation(self, model: str) -> str | None:
        serving = self._selection.current(model)
        return None if serving is None else serving.generation.name
