"""The ASGI application, made of the parts that are handed in."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from models.contract.errors import AbsorbError
from service.generations.follower import Follower
from service.generations.selection import Selection
from service.http.cache_routes import cache_routes
from service.http.fast_path import Shortcut
from service.http.middleware import Outermost
from service.http.routes import operating_routes, scoring_routes, showing_routes
from service.http.slow_routes import slow_routes
from service.observability.exposition import Scrape
from service.observability.metrics import Telemetry
from service.observability.request_log import Watch
from service.observability.slow_capture import SlowMetrics, SlowRequests
from service.observability.tracing import Tracing
from service.scoring.pipeline import Pipeline
from service.settings import Settings
from service.state.build import Tiers
from service.status import headers_of, status_of
from service.transport.auth import Access, KeyCheck
from service.transport.body import BodyLimit
from service.transport.responses import error_response
from service.v2.data_plane import Plane
from service.v2.http import v2_routes

if TYPE_CHECKING:
    from service.v2.grpc_server import GrpcDoor

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own: spans and metrics of ours are in `watch.py`, and it would ask three providers for each request."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Behind:
    """What the application stands in front of."""

    settings: Settings
    tiers: Tiers
    selection: Selection
    follower: Follower
    pipeline: Pipeline
    telemetry: Telemetry
    plane: Plane
    tracing: Tracing | None
    watch: Watch
    door: "GrpcDoor | None"


def create_app(parts: Behind) -> FastAPI:
    """Join the parts."""
    settings, telemetry = parts.settings, parts.telemetry
    access = Access(settings)
    scrape = Scrape(telemetry.registry)
    slow = SlowRequests(settings.slow_ms, settings.slow_dir, SlowMetrics(telemetry.registry))
    app = FastAPI(
        title="Absorb",
        description="Click probabilities from cached user states.",
        lifespan=lambda _: _lifespan(parts, scrape, slow),
        telemetry=NO_TELEMETRY,
    )
    scoring = scoring_routes(parts.pipeline, settings)
    for router in [scoring, *_routers(parts, access, scrape, slow)]:
        app.include_router(router)
    routes = {route.path: route for route in scoring.routes if isinstance(route, APIRoute)}
    app.add_middleware(Shortcut, routes=routes, on_error=_on_absorb_error)
    if access.needs_key:
        app.add_middleware(KeyCheck, access=access, refuse=error_response)
    app.add_middleware(Outermost, watch=parts.watch, refuse=error_response, slow=slow)
    app.exception_handler(AbsorbError)(_on_absorb_error)
    app.exception_handler(HTTPException)(_on_http_error)
    app.exception_handler(RequestValidationError)(_on_validation_error)
    return app


@asynccontextmanager
async def _lifespan(parts: Behind, scrape: Scrape, slow: SlowRequests) -> AsyncIterator[None]:
    """While it lasts, the follower polls, readiness is looked after, and the gRPC door is open."""
    polls = parts.follower.run(parts.settings.poll_interval_s)
    async with _going_on(polls, parts.follower.heartbeat.run(), parts.plane.readiness.run()):
        if parts.door is not None:
            await parts.door.open()
        yield
        if parts.door is not None:
            await parts.door.close()
    parts.follower.close()
    scrape.close()
    await asyncio.to_thread(slow.close)
    await parts.pipeline.close()
    if parts.tracing is not None:
        await asyncio.to_thread(parts.tracing.close)
    await parts.tiers.close()


def _routers(parts: Behind, access: Access, scrape: Scrape, slow: SlowRequests) -> list[APIRouter]:
    settings = parts.settings
    body = BodyLimit(settings.max_body_bytes, settings.body_timeout_s)
    return [
        cache_routes(parts.tiers, parts.pipeline, body),
        showing_routes(parts.pipeline, parts.selection),
        *v2_routes(parts.plane, body, access),
        operating_routes(parts.plane.readiness, scrape),
        slow_routes(slow, access),
    ]


@asynccontextmanager
async def _going_on(*endless: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Let these go on meanwhile; cancel them at the end."""
    tasks = [asyncio.create_task(one) for one in endless]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _on_absorb_error(_: Request, error: AbsorbError) -> Response:
    status = status_of(error)
    if status >= 500:
        log.warning("request refused", extra={"status": status, "error": str(error)})
    # The connection stays open where a body was too long: closing it while the client still
    # sends would reset it before the answer is read. The server throws the rest away.
    return error_response(status, str(error), headers_of(error))


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    text = f"{request.method} {request.url.path}: {error.detail}"
    return error_response(error.status_code, text, dict(error.headers or {}))


async def _on_validation_error(_: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return error_response(400, f"{where}: got {first['input']!r}, expected {first['msg']}")
