"""The event loop: uvloop with a limit on TLS handshakes, which uvicorn does not set."""

from typing import Any

import uvloop

HANDSHAKE_S = 10.0
"""Seconds for a TLS handshake, from the start of the connection. uvloop allows 60, and a silent client needs nothing
but a descriptor of ours for that time."""


class BoundedLoop(uvloop.Loop):
    """The event loop of a service process."""

    async def create_server(self, *args: Any, **kwargs: Any) -> Any:
        """Listen, as uvloop does."""
        if kwargs.get("ssl") is not None:
            kwargs.setdefault("ssl_handshake_timeout", HANDSHAKE_S)
        return await super().create_server(*args, **kwargs)
