"""The route that shows slow requests: for administrators, because the bodies name users."""

from typing import Any

from fastapi import APIRouter, Depends, Response

from service.observability.slow_capture import SlowRequests
from service.transport.auth import Access
from service.transport.responses import ERRORS

JSON_LINES = "application/x-ndjson"
LINES: dict[int | str, dict[str, Any]] = {200: {"content": {JSON_LINES: {}}}, **ERRORS}


def slow_routes(slow: SlowRequests, access: Access) -> APIRouter:
    """GET /v1/slow."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(access.admin)])

    @router.get("/slow", response_class=Response, responses=LINES)
    async def latest() -> Response:
        """Slow requests, latest first, as JSON lines that `python -m service.tools.replay` reads."""
        return Response(b"".join(slow.lines), media_type=JSON_LINES)

    return router
