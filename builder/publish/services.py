"""Which services are alive, what they serve, and whether they serve a new generation: they announce it in the cache."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.errors import NotServedError
from builder.publish.cache import CacheClient, cache_errors
from builder.publish.generations import read_pointer
from models.contract.announcement import (
    MAX_ANNOUNCEMENT_BYTES,
    SERVICES_KEY,
    Announcement,
    heartbeat_key,
    read_announcement,
)

LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class Served:
    """Who serves a published generation.

    Attributes:
        serving: names of the live services that serve it.
        missing: live service -> why it does not, in words.
        replaced_by: the generation that the pointer names now, if that is another one; else None.
    """

    serving: Sequence[str]
    missing: Mapping[str, str]
    replaced_by: str | None = None


def announcements(client: CacheClient) -> dict[str, Announcement]:
    """Living service -> what it announces.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    with cache_errors(client):
        names = sorted(name for name in client.smembers(SERVICES_KEY) if isinstance(name, bytes))
        values = _first_bytes(
            client, [heartbeat_key(name.decode(errors="replace")) for name in names]
        )
        announced = dict(zip(names, values, strict=True))
        if dead := [name for name, raw in announced.items() if raw == b""]:
            client.srem(SERVICES_KEY, *dead)
    return {
        name.decode(errors="replace"): read_announcement(raw if isinstance(raw, bytes) else b"")
        for name, raw in announced.items()
        if raw != b""
    }


def _first_bytes(client: CacheClient, keys: Sequence[str]) -> list[object]:
    """First bytes of each key, empty if it is missing; the error of a key that holds no string."""
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.getrange(key, 0, MAX_ANNOUNCEMENT_BYTES)
        return list(pipeline.execute(raise_on_error=False))


def waited_for(client: CacheClient, model: str, generation: str) -> list[str]:
    """Living services that follow `model` and have not loaded `generation`."""
    return [
        name
        for name, announced in announcements(client).items()
        if model in announced.loaded and announced.loaded[model] != generation
    ]


def wait_until_served(client: CacheClient, model: str, generation: str, limit_s: float) -> Served:
    """Wait until every living service serves a published generation, or another one is published.

    A service that was told to unload the model is not waited for. One that died counts as alive until its announcement
    expires, after 30 s at most.

    Args:
        client: the cache.
        model: name that the model is served under.
        generation: name of the generation, to which the pointer was flipped.
        limit_s: time limit in seconds; what has happened by then is returned.

    Raises:
        CacheUnavailableError: the cache does not answer.
        GenerationError: the pointer cannot be read any more.
    """
    deadline_s = time.monotonic() + limit_s
    while True:
        served = _look(client, model, generation)
        if served.replaced_by or not served.missing or time.monotonic() >= deadline_s:
            return served
        time.sleep(LOOK_EVERY_S)


def _look(client: CacheClient, model: str, generation: str) -> Served:
    serving, missing = [], {}
    for name, announced in announcements(client).items():
        problem = announced.why_not(model, generation)
        if problem is not None:
            missing[name] = problem
        elif announced.loaded.get(model) == generation:
            serving.append(name)
    pointer, _ = read_pointer(client, model)
    now = pointer.current.name if pointer else "nothing"
    return Served(serving, missing, None if now == generation else now)


def require_served(served: Served, model: str, generation: str, limit_s: float) -> None:
    """Raise `NotServedError` if a live service does not serve the generation that the pointer names."""
    if served.missing and not served.replaced_by:
        raise NotServedError(model, generation, limit_s, served.missing)
