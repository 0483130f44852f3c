"""The event loop: uvloop with limits on TLS handshakes and farewells, which uvicorn does not set."""

from typing import Any

import uvloop

HANDSHAKE_S = 10.0
"""Seconds for a TLS handshake, from the start of the connection. uvloop allows 60, and a silent client needs nothing
but a descriptor of ours for that time."""
FAREWELL_S = 1.0
"""Seconds for a client to answer the end of its TLS connection. uvloop allows 30, and a client that keeps an idle
connection does not read: a drain would wait for it until its limit."""


class BoundedLoop(uvloop.Loop):
    """The event loop of a service process."""

    async def create_server(self, *args: Any, **kwargs: Any) -> Any:
        """Listen, as uvloop does."""
        if kwargs.get("ssl") is not None:
            kwargs.setdefault("ssl_handshake_timeout", HANDSHAKE_S)
            kwargs.setdefault("ssl_shutdown_timeout", FAREWELL_S)
        return await super().create_server(*args, **kwargs)
