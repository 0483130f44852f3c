"""Rejects process-local endpoints on the shared port of a fleet, where any process might answer."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings import Settings
from service.transport.responses import error_response

OWN = ("/metrics", "/v1/slow", "/v1/cache", "/v2/repository/models/", "/v2/logging")
"""Prefixes of process-local paths: they read this process's counters or memory, or change only this process."""
STATISTICS = "/stats"
MISDIRECTED = 421


class LocalEndpoints:
    """ASGI middleware of a process of a fleet, outside all other middleware."""

    def __init__(self, app: ASGIApp, common_port: int, settings: Settings) -> None:
        """Wrap an application.

        Args:
            app: handles all other requests.
            common_port: the shared port.
            settings: settings of this process.
        """
        self._app = app
        self._common_port = common_port
        ports = ", ".join(str(common_port + 1 + at) for at in range(settings.processes))
        self._text = (
            f"port: got the port shared by {settings.processes} processes, "
            f"expected the port of one process: {ports}"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a misdirected request; pass on any other."""
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
