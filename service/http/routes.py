"""HTTP in, HTTP out: no decision."""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from models.contract.vocabulary import check_id
from service.errors import NotReadyError
from service.generations.selection import Selection
from service.http.answers import (
    comparison_answer,
    model_answer,
    score_answer,
    server_timing,
    user_answer,
)
from service.http.requests import CompareRequest, ScoreRequest, parse_request
from service.http.schemas import (
    CompareResponse,
    ModelList,
    ScoreResponse,
    UserResponse,
)
from service.observability.exposition import Scrape
from service.runtime.readiness import Readiness
from service.scoring.pipeline import Pipeline, Query
from service.settings import Settings
from service.status import retry_headers, status_of
from service.transport.body import BodyLimit, read_body
from service.transport.deadline import read_terms
from service.transport.disconnect import while_present
from service.transport.responses import ERRORS, BareRoute, JsonResponse, described_body
from service.transport.schemas import Live, NotReady, Ready

METRICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}
}


def scoring_routes(pipeline: Pipeline, settings: Settings) -> APIRouter:
    """Routes that score."""
    router = APIRouter(prefix="/v1", responses=ERRORS, route_class=BareRoute)
    body = BodyLimit(settings.max_body_bytes, settings.body_timeout_s)

    @router.post("/score", response_model=ScoreResponse, openapi_extra=described_body(ScoreRequest))
    async def score(request: Request) -> Response:
        """Score candidates for a user."""
        deadline, priority = read_terms(request.headers, settings)
        asked = parse_request(ScoreRequest, await read_body(request, body))
        query = Query(
            asked.user_id,
            asked.candidates,
            asked.model,
            asked.recent,
            asked.context,
            deadline,
            priority,
        )
        with while_present(request.receive):
            answer = await pipeline.score(query)
        headers = {"Server-Timing": server_timing(answer.stages)}
        return JsonResponse(score_answer(answer, asked.top_k), headers=headers)

    @router.post(
        "/compare", response_model=CompareResponse, openapi_extra=described_body(CompareRequest)
    )
    async def compare(request: Request) -> Response:
        """Rank candidates for a user with several models, and say how far they agree."""
        deadline, priority = read_terms(request.headers, settings)
        asked = parse_request(CompareRequest, await read_body(request, body))
        query = Query(
            asked.user_id,
            asked.candidates,
            None,
            asked.recent,
            asked.context,
            deadline,
            priority,
        )
        with while_present(request.receive):
            comparison = await pipeline.compare(query, asked.models, asked.top_k)
        headers = {"Server-Timing": server_timing(comparison.stages)}
        # In a thread: several models' long rankings would hold up the event loop.
        answer = await run_in_threadpool(comparison_answer, comparison, asked.top_k)
        return JsonResponse(answer, headers=headers)

    return router


def showing_routes(pipeline: Pipeline, selection: Selection) -> APIRouter:
    """Routes that show what is served, and what is stored."""
    router = APIRouter(prefix="/v1", responses=ERRORS)

    @router.get("/models", response_model=ModelList)
    async def models() -> Response:
        """Every model that is served."""
        default, serving = selection.default_model, selection.serving
        listed = [model_answer(one, name == default) for name, one in serving.items()]
        return JsonResponse({"models": listed})

    @router.get("/users/{user_id:path}", response_model=UserResponse)
    async def user(user_id: str, model: str | None = None) -> Response:
        """What the cache holds for a user."""
        stored = await pipeline.look_up(check_id("user_id", user_id), model)
        return JsonResponse(user_answer(stored))

    return router


def operating_routes(readiness: Readiness, scrape: Scrape) -> APIRouter:
    """Routes for probes and scrapers; no limit holds for them."""
    router = APIRouter()

    @router.get("/health/live", response_model=Live)
    async def live() -> Response:
        """The process answers."""
        return JsonResponse({"live": True})

    @router.get("/health/ready", response_model=Ready, responses={503: {"model": NotReady}})
    async def ready() -> Response:
        """A model is loaded, a real score through it worked a moment ago, and this process is not about to end."""
        try:
            readiness.check()
        except NotReadyError as error:
            status = status_of(error)
            return JsonResponse(
                {"ready": False, "error": str(error)}, status, headers=retry_headers(status)
            )
        return JsonResponse({"ready": True})

    @router.get("/metrics", response_class=Response, responses=METRICS)
    async def metrics(request: Request) -> Response:
        """Prometheus metrics, as OpenMetrics where the Accept header names it."""
        text, kind = await scrape.text(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": kind})

    return router
