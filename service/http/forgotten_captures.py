"""Takes captured requests of forgotten users out of memory and files, when this process learns who was forgotten."""

import asyncio
import logging
from pathlib import Path

from models.contract.errors import AbsorbError
from service.observability.slow_capture import SlowRequests
from service.store.event_log import EventLog

log = logging.getLogger(__name__)


class ForgottenCaptures:
    """Is told of forgotten users by the stream of changed records."""

    def __init__(self, slow: SlowRequests, events: EventLog, file: Path | None) -> None:
        """Store the dependencies.

        Args:
            slow: captured requests.
            events: knows who was forgotten.
            file: captured requests that warm up a generation; None: there are none.
        """
        self._slow = slow
        self._events = events
        self._file = file
        self._checking: asyncio.Task[None] | None = None

    def told(self, user: str | None) -> None:
        """Take the requests of a user out.

        Args:
            user: `tombstone` of the user; None: users may have been forgotten while this process was not connected.
        """
        if user is not None:
            self._slow.forget(user, self._file)
        else:
            self._checking = asyncio.get_running_loop().create_task(self._check())

    async def _check(self) -> None:
        """Ask the cache for a tombstone of each user of a captured request."""
        try:
            for user in await self._events.forgotten(await self._slow.users(self._file)):
                self._slow.forget(user, self._file)
        except (AbsorbError, OSError) as error:
            log.warning("captured requests were not checked", extra={"error": str(error)})
