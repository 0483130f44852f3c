"""What `GET /v1/cache` answers, as a plain dict in the form that `schemas.py` documents."""

from service.generations.serving import Serving
from service.http.answers import Json
from service.state.build import Tiers
from service.state.counters import TIERS, Tally


def cache_answer(tiers: Tiers) -> Json:
    """A `CacheResponse`."""
    host, counts = tiers.host, tiers.counts
    waiting = counts.num_hinted - sum(counts.outcomes.values())
    prefetch: Json = {"hinted": counts.num_hinted, "waiting": waiting}
    prefetch.update({str(outcome): num for outcome, num in counts.outcomes.items()})
    return {
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
        "generations": [_generation(tiers, one) for one in sorted(counts.by_serving, key=_model)],
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
