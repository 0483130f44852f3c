"""POST /v1/events: what users did, for the workers that fold it into their states."""

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from models.live.event import Event
from service.http.event_body import EventsRequest, body_bound, check_key
from service.http.requests import parse_request
from service.http.schemas import EventsResponse
from service.observability.event_metrics import EventMetrics
from service.settings import Settings
from service.store.event_log import EventLog
from service.transport.body import BodyLimit, receive_body
from service.transport.headers import first_of_each
from service.transport.limits import LARGE_BYTES
from service.transport.parser_thread import ParserThread
from service.transport.responses import ERRORS, BareRoute, JsonResponse, described_body

KEY_HEADER = b"idempotency-key"


def event_routes(
    log: EventLog,
    settings: Settings,
    parsers: ParserThread,
    metrics: EventMetrics,
    clock: Callable[[], float],
) -> APIRouter:
    """POST /v1/events. It needs no model: events are kept for whatever is published next.

    Args:
        log: writes events to the cache.
        settings: limits of bodies.
        parsers: parses large bodies.
        metrics: counts events.
        clock: returns the epoch second.
    """
    router = APIRouter(prefix="/v1", responses=ERRORS, route_class=BareRoute)
    limit = BodyLimit(settings.max_body_bytes, settings.body_timeout_s)
    bound = body_bound()

    def parse(raw: bytes, key: str | None) -> list[Event]:
        if len(raw) > LARGE_BYTES:
            bound.check(raw)
        return parse_request(EventsRequest, raw, None).read(key, float(clock()))

    @router.post(
        "/events",
        status_code=202,
        response_model=EventsResponse,
        openapi_extra=described_body(EventsRequest),
    )
    async def events(request: Request) -> Response:
        """Accept events of users: `absorb follow` folds them into their states.

        The body is `{"events": [...]}`, or one event. With `event_id`, or the header `Idempotency-Key`, a request may
        be sent again: nothing counts twice. 410: the user was forgotten. 429: too many events wait for the workers.
        """
        headers = first_of_each(request.scope)
        raw = await receive_body(request.receive, headers, limit)
        key = headers.get(KEY_HEADER)
        checked = None if key is None else check_key(key.decode("latin-1"))
        read = await parsers.parse(parse, raw, checked)
        with metrics.counted(len(read)):
            accepted = await log.append(read)
        metrics.accepted(accepted.accepted - accepted.duplicates, accepted.duplicates)
        answer = {
            "accepted": accepted.accepted,
            "duplicates": accepted.duplicates,
            "position": accepted.position,
        }
        return JsonResponse(answer, 202)

    return router
