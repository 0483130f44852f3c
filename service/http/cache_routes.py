"""HTTP in, HTTP out, about the cache's tiers: hints of who will be asked for, and what lies where."""

from fastapi import APIRouter, Request, Response

from service.http.cache_answers import cache_answer
from service.http.requests import PrefetchRequest, parse_request
from service.http.schemas import CacheResponse, PrefetchResponse
from service.scoring.pipeline import Pipeline
from service.state.build import Tiers
from service.transport.body import BodyLimit, read_body
from service.transport.responses import ERRORS, BareRoute, JsonResponse, described_body


def cache_routes(tiers: Tiers, pipeline: Pipeline, body: BodyLimit) -> APIRouter:
    """Routes under /v1. None of them waits for the cache."""
    router = APIRouter(prefix="/v1", responses=ERRORS, route_class=BareRoute)

    @router.post(
        "/prefetch",
        status_code=202,
        response_model=PrefetchResponse,
        openapi_extra=described_body(PrefetchRequest),
    )
    async def prefetch(request: Request) -> Response:
        """Say which users will soon be scored: their records are read in the background."""
        asked = parse_request(PrefetchRequest, await read_body(request, body))
        accepted = pipeline.prefetch(asked.model, asked.user_ids)
        answer = {"accepted": accepted, "dropped": len(asked.user_ids) - accepted}
        return JsonResponse(answer, 202)

    @router.get("/cache", response_model=CacheResponse)
    async def cache(_: Request) -> Response:
        """What the tiers hold, and how their lookups ended."""
        return JsonResponse(cache_answer(tiers))

    return router
