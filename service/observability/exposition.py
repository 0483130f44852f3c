"""The metrics as text. A thread of its own formats them, so that a scrape and score requests do not delay each other.

Concurrent scrapes of the same format share one text.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

OPEN_METRICS = "application/openmetrics-text"


class Scrape:
    """Formats the metrics of a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scrape")
        self._running: dict[bool, asyncio.Task[bytes]] = {}

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text, and their content type.

        Args:
            accept: the request's Accept header. If it names OpenMetrics, that format is used, else Prometheus text.
        """
        is_open = OPEN_METRICS in accept
        running = self._running.get(is_open)
        if running is None or running.done():
            running = self._running[is_open] = asyncio.create_task(self._make(is_open))
        # Shielded: a cancelled scrape must not cancel the others that share the text.
        text = await asyncio.shield(running)
        return text, openmetrics.CONTENT_TYPE_LATEST if is_open else CONTENT_TYPE_LATEST

    async def _make(self, is_open: bool) -> bytes:
        make = openmetrics.generate_latest if is_open else generate_latest
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, make, self._registry)

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
