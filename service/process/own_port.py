"""What is one process's own is not asked for on a port that several share: whose it would be, chance would say."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings import Settings
from service.transport.responses import error_response

OWN = ("/metrics", "/v1/slow", "/v1/cache", "/v2/repository/models/", "/v2/logging")
"""Beginnings of paths: counters, what lies in this process's memory, and what changes this process alone."""
STATISTICS = "/stats"
MISDIRECTED = 421


class OwnPort:
    """The outermost layer of a process of several."""

    def __init__(self, app: ASGIApp, common_port: int, settings: Settings) -> None:
        """Keep the parts.

        Args:
            app: what answers the rest.
            common_port: which all processes share.
            settings: this process's.
        """
        self._app = app
        self._common_port = common_port
        ports = ", ".join(str(common_port + 1 + at) for at in range(settings.processes))
        self._text = f"port: got the one that {settings.processes} processes share, expected one's own: {ports}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and self._is_misdirected(scope):
            await error_response(MISDIRECTED, self._text)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_misdirected(self, scope: Scope) -> bool:
        server = scope.get("server")
        if server is None or server[1] != self._common_port:
            return False
        path: str = scope["path"]
        return path.startswith(OWN) or path.endswith(STATISTICS)
