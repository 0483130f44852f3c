"""The route that shows slow requests: for admins, since bodies name users."""

from fastapi import APIRouter, Depends, Response

from service.access import Access
from service.slow import SlowRequests


def slow_routes(slow: SlowRequests, access: Access) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(access.admin)])

    @router.get("/slow")
    async def latest() -> Response:
        """Slow requests, latest first, as JSON lines: a file that `python -m service.replay` reads."""
        return Response(b"".join(slow.lines), media_type="application/x-ndjson")

    return router
