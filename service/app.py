"""The ASGI application over the dependencies that are handed in."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from models.contract.errors import AbsorbError
from service.generations.follower import Follower
from service.generations.new_items import NewItemRegistry
from service.generations.selection import Selection
from service.http.cache_routes import cache_routes
from service.http.event_routes import event_routes
from service.http.forget_routes import forget_routes
from service.http.forgotten_captures import ForgottenCaptures
from service.http.item_routes import item_routes
from service.http.middleware import Check, RequestMiddleware
from service.http.routes import operating_routes, scoring_routes, showing_routes
from service.http.slow_routes import slow_routes
from service.observability.event_metrics import EventMetrics
from service.observability.exposition import Scrape
from service.observability.metrics import Telemetry
from service.observability.request_log import RequestLog
from service.observability.slow_capture import SlowMetrics, SlowRequests
from service.observability.tracing import Tracing
from service.runtime.readiness import Readiness
from service.runtime.workers import Workers
from service.scoring.pipeline import Pipeline
from service.settings import Settings
from service.state.build import Tiers
from service.status import headers_of, status_of
from service.store.event_log import EventLog
from service.store.forgetting import Forgetting
from service.transport.auth import Access
from service.transport.body import BodyLimit
from service.transport.browser import BrowserRules
from service.transport.exchange import Arrivals
from service.transport.parser_thread import ParserThread
from service.transport.responses import error_response
from service.v2.data_plane import DataPlane
from service.v2.http import v2_routes

if TYPE_CHECKING:
    from service.v2.grpc_server import GrpcServer

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own telemetry would ask three providers for each request; ours is in `service/observability`."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dependencies:
    """Everything that a running service is made of. `service/wiring.py` makes it from the settings.

    Attributes:
        settings: settings from the environment, or made by a test.
        telemetry: metrics, with their registry.
        tiers: the cache, and the host tier in memory.
        selection: generations that serve now.
        follower: loads published generations.
        new_items: items that no build knows yet.
        forgetting: removes users from the cache.
        workers: threads that score.
        readiness: whether this process should get requests.
        parsers: parses large request bodies.
        pipeline: query -> scores.
        arrivals: counts requests from their arrival on.
        data_plane: the V2 protocol, whatever transport carries it.
        events: writes live events to the cache.
        tracing: begins spans; None: traces are off.
        request_log: begins and finishes requests.
        grpc_server: the V2 protocol over gRPC; None: it is off.
    """

    settings: Settings
    telemetry: Telemetry
    tiers: Tiers
    selection: Selection
    follower: Follower
    new_items: NewItemRegistry
    forgetting: Forgetting
    workers: Workers
    readiness: Readiness
    parsers: ParserThread
    pipeline: Pipeline
    arrivals: Arrivals
    data_plane: DataPlane
    events: EventLog
    tracing: Tracing | None
    request_log: RequestLog
    grpc_server: "GrpcServer | None"

    def stop_accepting_grpc(self) -> None:
        """Take no new gRPC calls; uvicorn does the same for HTTP."""
        if self.grpc_server is not None:
            self.grpc_server.begin_to_close()


class Application(FastAPI):
    """FastAPI with one middleware outside of its own.

    Attributes:
        outermost: gets every request first.
    """

    outermost: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self.outermost(scope, receive, send)


def create_app(dependencies: Dependencies) -> Application:
    """Make the ASGI application: routes, middleware, error handlers and background tasks."""
    settings, telemetry = dependencies.settings, dependencies.telemetry
    access = Access(settings)
    scrape = Scrape(telemetry.registry)
    slow = SlowRequests(settings.slow_ms, settings.slow_dir, SlowMetrics(telemetry.registry))
    app = Application(
        title="Absorb",
        description="Click probabilities from cached user states.",
        lifespan=lambda _: _lifespan(dependencies, scrape, slow),
        telemetry=NO_TELEMETRY,
        redirect_slashes=False,  # the redirect would lead to whatever host the request names
    )
    scoring = scoring_routes(
        dependencies.pipeline, settings, dependencies.parsers, dependencies.tiers.follow
    )
    for router in [scoring, *_routers(dependencies, access, scrape, slow)]:
        app.include_router(router)
    routes = {route.path: route for route in scoring.routes if isinstance(route, APIRoute)}
    app.outermost = RequestMiddleware(
        partial(FastAPI.__call__, app),
        dependencies.request_log,
        slow,
        _checks(settings, access),
        routes,
        _error_response,
    )
    app.exception_handler(AbsorbError)(_on_absorb_error)
    app.exception_handler(HTTPException)(_on_http_error)
    app.exception_handler(RequestValidationError)(_on_validation_error)
    return app


@asynccontextmanager
async def _lifespan(
    dependencies: Dependencies, scrape: Scrape, slow: SlowRequests
) -> AsyncIterator[None]:
    """Poll, announce and probe in the background, and serve gRPC, while the application runs; then close all."""
    follower, grpc_server = dependencies.follower, dependencies.grpc_server
    interval_s, tiers = dependencies.settings.poll_interval_s, dependencies.tiers
    endless = (
        follower.run(interval_s),
        follower.heartbeat.run(),
        dependencies.readiness.run(),
        tiers.follow.run(interval_s),
    )
    captures = ForgottenCaptures(slow, dependencies.events, dependencies.settings.warm_up_file)
    async with _running(*endless, tiers.changes.run(captures.told)):
        if grpc_server is not None:
            await grpc_server.open()
        yield
        if grpc_server is not None:
            await grpc_server.close()
    await follower.heartbeat.retire()
    follower.close()
    scrape.close()
    await asyncio.to_thread(slow.close)
    await dependencies.pipeline.close()
    dependencies.parsers.close()
    if dependencies.tracing is not None:
        await asyncio.to_thread(dependencies.tracing.close)
    await tiers.close()


def _checks(settings: Settings, access: Access) -> list[Check]:
    """What every request passes, in this order."""
    rules = BrowserRules(settings)
    checks: list[Check] = [rules.check] if rules.is_needed else []
    return [*checks, access.check_scoring] if access.needs_key else checks


def _routers(
    dependencies: Dependencies, access: Access, scrape: Scrape, slow: SlowRequests
) -> list[APIRouter]:
    """Every router but the one that scores."""
    settings, pipeline = dependencies.settings, dependencies.pipeline
    body = BodyLimit(settings.max_body_bytes, settings.body_timeout_s)
    return [
        cache_routes(dependencies.tiers, pipeline, settings, dependencies.parsers),
        event_routes(
            dependencies.events,
            settings,
            dependencies.parsers,
            EventMetrics(dependencies.telemetry.registry),
            dependencies.tiers.states.clock,
        ),
        showing_routes(pipeline, dependencies.selection),
        *v2_routes(dependencies.data_plane, body, access, dependencies.parsers),
        operating_routes(dependencies.readiness, scrape),
        slow_routes(slow, access),
        forget_routes(dependencies.forgetting, access),
        item_routes(dependencies.new_items, body, access, dependencies.parsers),
    ]


@asynccontextmanager
async def _running(*endless: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run background tasks that do not end by themselves; cancel them at the end."""
    tasks = [asyncio.create_task(coroutine) for coroutine in endless]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _on_absorb_error(_: Request, error: AbsorbError) -> Response:
    return _error_response(error)


def _error_response(error: AbsorbError) -> Response:
    status = status_of(error)
    if status >= 500:
        log.warning("request refused", extra={"status": status, "error": str(error)})
    # After a body that is too long the connection stays open, and the server discards the rest: closing it while the
    # client still sends would reset it before the client reads the answer.
    return error_response(status, str(error), headers_of(error))


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    text = f"{request.method} {request.url.path}: {error.detail}"
    return error_response(error.status_code, text, dict(error.headers or {}))


async def _on_validation_error(_: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return error_response(400, f"{where}: got {first['input']!r}, expected {first['msg']}")
