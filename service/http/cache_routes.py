"""Routes about the cache's tiers: prefetch hints, and what each tier holds."""

from fastapi import APIRouter, Request, Response

from service.generations.serving import Serving
from service.http.answers import Json
from service.http.requests import PrefetchRequest, with_body
from service.http.schemas import CacheResponse, PrefetchResponse
from service.scoring.pipeline import Pipeline
from service.settings import Settings
from service.state.build import Tiers
from service.state.counters import TIERS, Tally
from service.state.device_tier import DeviceTier
from service.transport.parser_thread import ParserThread
from service.transport.responses import ERRORS, BareRoute, JsonResponse, described_body


def cache_routes(
    tiers: Tiers, pipeline: Pipeline, settings: Settings, parsers: ParserThread
) -> APIRouter:
    """POST /v1/prefetch and GET /v1/cache. Neither waits for the cache."""
    router = APIRouter(prefix="/v1", responses=ERRORS, route_class=BareRoute)

    @router.post(
        "/prefetch",
        status_code=202,
        response_model=PrefetchResponse,
        openapi_extra=described_body(PrefetchRequest),
    )
    @with_body(PrefetchRequest, settings, parsers)
    async def prefetch(hint: PrefetchRequest, deadline: float, priority: int) -> Response:
        """Announce users who will be scored soon: their records are read in the background.

        Limits of requests in flight apply as to scores, with the lowest priority unless the request sets one.
        """
        accepted = await pipeline.prefetch(hint.model, hint.user_ids, deadline, priority)
        answer = {"accepted": accepted, "dropped": len(hint.user_ids) - accepted}
        return JsonResponse(answer, 202)

    @router.get("/cache", response_model=CacheResponse)
    async def cache(_: Request) -> Response:
        """What the cache tiers hold, and how their lookups ended."""
        return JsonResponse(cache_answer(tiers))

    return router


def cache_answer(tiers: Tiers) -> Json:
    """Make a `CacheResponse`."""
    host, counts = tiers.host, tiers.counts
    waiting = counts.num_hinted - sum(counts.outcomes.values())
    prefetch: Json = {"hinted": counts.num_hinted, "waiting": waiting}
    prefetch.update({str(outcome): num for outcome, num in counts.outcomes.items()})
    return {
        "device": _device(tiers.device),
        "host": {
            "limit_bytes": host.limit_bytes,
            "num_bytes": host.num_bytes,
            "users": host.users.num_entries,
            "absent_users": host.absent.num_entries,
            "evictions": host.evictions,
        },
        "tiers": _tallied(counts.total),
        "joined_reads": counts.num_joined,
        "prefetch": prefetch,
        "generations": [
            _generation(tiers, serving) for serving in sorted(counts.by_serving, key=_model)
        ],
    }


def _device(device: DeviceTier) -> Json:
    return {
        "limit_bytes": device.limit_bytes,
        "num_bytes": device.users.num_bytes,
        "users": device.users.num_entries,
        "evictions": device.users.evictions,
        "waiting": device.num_waiting,
        "copies": dict(device.outcomes),
    }


def _model(serving: Serving) -> str:
    return serving.generation.model


def _generation(tiers: Tiers, serving: Serving) -> Json:
    users, num_bytes = tiers.host.users.size_of(serving)
    absent, absent_bytes = tiers.host.absent.size_of(serving)
    return {
        "model": serving.generation.model,
        "generation": serving.generation.name,
        "users": users,
        "absent_users": absent,
        "num_bytes": num_bytes + absent_bytes,
        "tiers": _tallied(tiers.counts.by_serving[serving]),
    }


def _tallied(tally: Tally) -> list[Json]:
    return [
        {"tier": tier, "lookups": tally.lookups(tier), "results": tally.results[tier]}
        for tier in TIERS
    ]
