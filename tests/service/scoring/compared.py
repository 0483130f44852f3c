"""Requests to `/v1/compare`, and three toys that it compares."""

from typing import Any

import httpx

from service.http.schemas import CompareResponse
from tests.service.toy import Toy, listed_score_graph
from tests.service.world import Running, World

ALPHA, BETA, GAMMA = Toy(seed=1), Toy(seed=2), Toy(seed=3)
NAMES = ["alpha", "beta", "gamma"]
CANDIDATES = [*(f"i{n}" for n in range(15)), "nope", "i3"]
SHARED = ("generation", "artifact_id", "state", "degraded", "degraded_reason", "unknown_candidates")
KNOWN = 30  # items of the toys' catalogue, behind the rows of padding and of what is unknown


def publish_three(world: World) -> None:
    for name, toy in zip(NAMES, (ALPHA, BETA, GAMMA), strict=True):
        world.publish(toy, name)


async def post(service: Running, **more: Any) -> httpx.Response:
    body = {"user_id": "ann", "candidates": CANDIDATES, **more}
    return await service.client.post("/v1/compare", json=body)


async def compare(service: Running, **more: Any) -> Any:
    """The answer to a comparison that must succeed."""
    response = await post(service, **more)
    assert response.status_code == 200, response.text
    CompareResponse.model_validate(response.json())
    return response.json()


def logits_by_item(*logits: float) -> bytes:
    """A graph that gives i0, i1, … these logits, and 0 to all others."""
    return listed_score_graph([0, 0, *logits, *[0] * (KNOWN - len(logits))])
