"""Items that no build knows yet: read from the cache at each poll, and told to every model that serves."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from models.contract.errors import AbsorbError, CorruptRecordError
from models.contract.prototypes import check_item_fields
from models.contract.vocabulary import Vocabulary
from models.live.new_items import (
    NEW_ITEMS_KEY,
    VERSION_FIELD,
    Command,
    NewItem,
    NewItems,
    check_length,
    check_room,
    drop_commands,
    put_commands,
    read_new_items,
    read_version,
    room_commands,
)
from service.errors import UnknownItemError
from service.generations.selection import Selection
from service.generations.serving import Serving
from service.store.event_log import CommandStore

log = logging.getLogger(__name__)


class NewItemMetrics:
    """Metrics of the registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register them.

        Args:
            registry: registry of this process.
        """
        self.items = Gauge(
            "absorb_new_items",
            "New items that this process has read from the cache.",
            registry=registry,
        )
        self.unreadable = Gauge(
            "absorb_new_items_unreadable",
            "Entries of the new items in the cache that cannot be read.",
            registry=registry,
        )
        self.failures = Counter(
            "absorb_new_item_failures",
            "Failed reads of the new items; those that were read before are kept.",
            registry=registry,
        )


class NewItemRegistry:
    """The new items of a cache. Used by the event loop only; threads read what it tells the scorers.

    Attributes:
        found: what was read last.
    """

    def __init__(
        self,
        store: CommandStore,
        selection: Selection,
        metrics: NewItemMetrics,
        clock: Callable[[], float],
    ) -> None:
        """Know no item until the first `refresh`.

        Args:
            store: the cache.
            selection: what serves now.
            metrics: how many items there are.
            clock: gives the epoch second.
        """
        self.found = NewItems()
        self._store, self._selection = store, selection
        self._metrics, self._clock = metrics, clock
        self._error: str | None = None

    async def refresh(self) -> None:
        """Read the items if they have changed. A failure keeps those that were read before, and is counted."""
        try:
            await self._read()
        except AbsorbError as error:
            self._metrics.failures.inc()
            if self._error != str(error):
                log.warning("new items cannot be read", extra={"error": str(error)})
            self._error = str(error)
            return
        self._error = None

    async def tell(self, serving: Serving) -> None:
        """Tell a generation, and those whose records it overwrites, which items are new to them."""
        if self.found.items:
            await self._tell([serving])

    async def add(self, items: Mapping[str, Mapping[str, str]]) -> None:
        """Register items, or give them other fields; this process scores them at once.

        Args:
            items: raw id -> item field -> raw value.

        Raises:
            RequestError: no model that serves has one of the fields; or there would be too many items.
            CacheUnavailableError: the cache does not answer, or the service may not write.
        """
        known, is_any_model = self.fields(), bool(self._selection.serving)
        for at, fields in enumerate(items.values()):
            check_item_fields(f"items[{at}].fields", fields, known, is_any_model=is_any_model)
        now_s = int(self._clock())
        entries = [NewItem(item, fields, now_s) for item, fields in items.items()]
        check_room(await self._run(room_commands(list(items))))
        await self._run(put_commands(entries))
        await self._read()

    async def drop(self, item_id: str) -> None:
        """Remove an item.

        Raises:
            UnknownItemError: it is not registered.
            CacheUnavailableError: the cache does not answer, or the service may not write.
        """
        gone, _ = await self._run(drop_commands([item_id]))
        await self._read()
        if not gone:
            raise UnknownItemError(item_id)

    def fields(self) -> dict[str, list[str]]:
        """Item field -> models that serve and have it."""
        models: dict[str, list[str]] = {}
        for model, vocabulary in self.models():
            for name in vocabulary.prototypes.fields if vocabulary.prototypes else ():
                models.setdefault(name, []).append(model)
        return models

    def models(self) -> list[tuple[str, Vocabulary]]:
        """Models that serve, and their vocabularies."""
        serving = self._selection.serving.items()
        return [(model, one.artifact.vocabulary) for model, one in serving]

    async def _read(self) -> None:
        ask: list[Command] = [("HGET", NEW_ITEMS_KEY, VERSION_FIELD), ("HLEN", NEW_ITEMS_KEY)]
        raw, length = await self._run(ask)
        if read_version(raw) == self.found.version:
            return
        check_length(length)
        (answer,) = await self._run([("HGETALL", NEW_ITEMS_KEY)])
        fields = _as_dict(answer)
        # In a thread: thousands of entries would hold up the event loop.
        self.found = await asyncio.to_thread(read_new_items, fields)
        self._metrics.items.set(len(self.found.items))
        self._metrics.unreadable.set(self.found.unreadable)
        await self._tell(list(self._selection.serving.values()))

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        return await self._store.execute([(NEW_ITEMS_KEY, command) for command in commands])

    async def _tell(self, servings: Sequence[Serving]) -> None:
        every = [one for serving in servings for one in (serving, *serving.older.values())]
        await asyncio.to_thread(_tell, self.found, every)


def _tell(found: NewItems, servings: Sequence[Serving]) -> None:
    for serving in servings:
        serving.scorer.know(found.rows_for(serving.artifact.vocabulary))


def _as_dict(answer: object) -> dict[bytes, bytes]:
    """HGETALL's answer: a dict, or with some clients a flat list."""
    if isinstance(answer, dict):
        return answer
    if not isinstance(answer, list):
        raise CorruptRecordError("the key holds a value that is not a hash")
    return dict(zip(answer[::2], answer[1::2], strict=True))
