"""Tells when the process has no file descriptor left: libuv then closes new connections without a word."""

import errno
import logging
import os
import resource

LOOK_EVERY_TICKS = 10
"""Ticks of uvicorn's server, .1 s each, from one look to the next."""

log = logging.getLogger(__name__)


class Descriptors:
    """Tries to duplicate a descriptor, which takes a microsecond, and logs when that begins or ceases to fail."""

    def __init__(self) -> None:
        self._is_out = False
        self._ticks = 0

    def tick(self) -> None:
        """Look at every tenth call."""
        self._ticks = (self._ticks + 1) % LOOK_EVERY_TICKS
        if self._ticks == 0:
            self.look()

    def look(self) -> None:
        """Look now."""
        is_out = not _is_one_free()
        if is_out == self._is_out:
            return
        self._is_out = is_out
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if is_out:
            text = (
                "out of file descriptors: new connections are closed; raise the limit (ulimit -n)"
            )
            log.error(text, extra={"limit": limit})
        else:
            log.warning("file descriptors are free again", extra={"limit": limit})


def _is_one_free() -> bool:
    try:
        os.close(os.dup(2))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    return True
