"""Routes under /v1, probes and metrics. They translate between HTTP and the pipeline, and decide nothing."""

from collections.abc import Callable, Sequence
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
from service.http.requests import CompareRequest, ScoreRequest, with_body
from service.http.schemas import (
    CompareResponse,
    ModelList,
    ScoreResponse,
    UserResponse,
)
from service.native.library import NativeLibraryError
from service.native.tokens import Functions, ScoreBody, ScoreReader
from service.observability.exposition import Scrape
from service.query import Query, timings_ms
from service.runtime.readiness import Readiness
from service.runtime.scorer import CandidateFields
from service.scoring.pipeline import Pipeline
from service.settings import Settings
from service.state.follow import FollowReader
from service.status import retry_headers, status_of
from service.transport.parser_thread import ParserThread
from service.transport.responses import ERRORS, BareRoute, JsonResponse, described_body
from service.transport.schemas import Live, NotReady, Ready

METRICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}
}


def scoring_routes(
    pipeline: Pipeline, settings: Settings, parsers: ParserThread, follow: FollowReader
) -> APIRouter:
    """Routes that score: POST /v1/score and POST /v1/compare."""
    router = APIRouter(prefix="/v1", responses=ERRORS, route_class=BareRoute)

    @router.post("/score", response_model=ScoreResponse, openapi_extra=described_body(ScoreRequest))
    @with_body(ScoreRequest, settings, parsers, _common_reader(settings))
    async def score(body: ScoreRequest | ScoreBody, deadline: float, priority: int) -> Response:
        """Score candidates for a user."""
        query = _query(body, deadline, priority)
        scores = await pipeline.score(query)
        timings = timings_ms(scores.stages)
        headers = {"Server-Timing": server_timing(timings)}
        freshness = follow.freshness(scores.generation.model)
        answer = score_answer(scores, body.top_k, timings, freshness)
        return JsonResponse(answer, headers=headers)

    @router.post(
        "/compare", response_model=CompareResponse, openapi_extra=described_body(CompareRequest)
    )
    @with_body(CompareRequest, settings, parsers)
    async def compare(body: CompareRequest, deadline: float, priority: int) -> Response:
        """Rank candidates for a user with several models, and say how far they agree."""
        query = Query(
            body.user_id,
            body.candidates.ids,
            None,
            body.recent,
            body.context,
            body.candidates.fields,
            deadline,
            priority,
        )
        comparison = await pipeline.compare(query, body.models, body.top_k)
        timings = timings_ms(comparison.stages)
        headers = {"Server-Timing": server_timing(timings)}
        # In a thread: the long rankings of several models would block the event loop.
        answer = await run_in_threadpool(comparison_answer, comparison, body.top_k, timings)
        return JsonResponse(answer, headers=headers)

    return router


def _common_reader(settings: Settings) -> Callable[[bytes], ScoreBody | None]:
    try:
        functions = Functions()
    except NativeLibraryError:
        return lambda raw: None
    return ScoreReader(functions, settings.max_candidates, settings.max_recent).read


def _query(body: ScoreRequest | ScoreBody, deadline: float, priority: int) -> Query:
    ids: Sequence[str]
    fields: CandidateFields
    if isinstance(body, ScoreBody):
        ids, fields = body.ids, body.fields
    else:
        ids, fields = body.candidates.ids, body.candidates.fields
    model, recent, context = body.model, body.recent, body.context
    return Query(body.user_id, ids, model, recent, context, fields, deadline, priority)


def showing_routes(pipeline: Pipeline, selection: Selection) -> APIRouter:
    """Routes that show which models serve, and what the cache holds for a user."""
    router = APIRouter(prefix="/v1", responses=ERRORS)

    @router.get("/models", response_model=ModelList)
    async def models() -> Response:
        """Every model that is served."""
        default = selection.default_model
        listed = [
            model_answer(serving, name == default) for name, serving in selection.serving.items()
        ]
        return JsonResponse({"models": listed, "default": default})

    @router.get("/users/{user_id:path}", response_model=UserResponse)
    async def user(user_id: str, model: str | None = None) -> Response:
        """What the cache holds for a user."""
        stored = await pipeline.look_up(check_id("user_id", user_id), model)
        return JsonResponse(user_answer(stored))

    return router


def operating_routes(readiness: Readiness, scrape: Scrape) -> APIRouter:
    """Routes for probes and metrics. Admission limits do not apply to them."""
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
