"""Which generation serves a request, and which model is the default."""

import pytest

from models.contract.generation import first_choice
from service.errors import NotReadyError
from service.generations.selection import Selection
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio
OLD, NEW = Toy(seed=1), Toy(seed=2)


@pytest.mark.parametrize(
    ("models", "expected"), [([], None), (["sim", "din"], "din"), (["din", "lrea"], "lrea")]
)
def test_the_first_choice_is_lrea_else_the_first_by_name(models: list[str], expected: str | None):
    assert first_choice(models) == expected


@pytest.mark.parametrize(
    ("configured", "published", "expected"),
    [(None, None, None), (None, "din", "din"), ("absent", "din", "absent"), ("sim", None, "sim")],
)
def test_the_default_model_is_the_setting_s_else_the_cache_s(
    configured: str | None, published: str | None, expected: str | None
):
    selection = Selection(configured)
    selection.note_published({"din"}, published)
    selection.note_published(set(), None)  # what was chosen stays
    assert selection.default_model == expected


def test_without_models_the_reason_is_that_of_the_cache_if_it_has_one():
    selection = Selection(None)
    with pytest.raises(NotReadyError, match="no generation of any model is published yet"):
        selection.pick(None)
    selection.cache_error = "cache: no answer in 50 ms"
    with pytest.raises(NotReadyError, match="no answer in 50 ms"):
        selection.pick_several(None)


@pytest.mark.parametrize("model", [None, "din"])
def test_a_published_model_that_loads_is_not_called_unknown_or_unpublished(model: str | None):
    """Between the first look at the pointers and the end of the load."""
    selection = Selection(None)
    selection.note_published({"din"}, None)
    with pytest.raises(NotReadyError, match="the generation of din is published, and loads"):
        selection.pick(model)


async def test_a_second_model_that_loads_is_not_unknown(world: World):
    world.publish(OLD)
    async with world.service() as service:
        service.selection.note_published({"toy", "din"}, None)
        body = {"user_id": "ann", "candidates": ["i1"], "model": "din"}
        loading = await service.client.post("/v1/score", json=body)
        unknown = await service.client.post("/v1/score", json={**body, "model": "none"})
    assert (loading.status_code, unknown.status_code) == (503, 404)
    assert "published, and loads" in loading.json()["error"]


async def test_readiness_depends_on_the_default_model(world: World):
    world.publish(OLD)
    async with world.service(default_model="lrea") as service:
        ready = await service.ready()
        body = {"user_id": "ann", "candidates": ["i1"]}
        refused = await service.client.post("/v1/score", json=body)
        named = await service.score(model="toy")
    assert (ready.status_code, refused.status_code) == (503, 503)
    assert refused.json()["error"] == (
        "not ready: no generation of lrea is published yet; it is the default model: "
        "name one of toy in the request, or change the default (ABSORB_DEFAULT_MODEL)"
    )
    assert named["model"] == "toy"


async def test_an_unloaded_first_choice_is_not_replaced(world: World):
    """In a cache that names no default model, as older builders leave it."""
    world.publish(OLD, "lrea")
    world.publish(NEW, "din")
    body = {"user_id": "ann", "candidates": ["i1"]}
    async with world.service() as service:
        await service.follower.unload("lrea", "just now")
        assert service.selection.default_model == "lrea"
        refused = await service.client.post("/v1/score", json=body)
        await service.follower.unload("din", "just now")
        await service.follower.load("din")
        again = await service.client.post("/v1/score", json=body)
    assert (refused.status_code, again.status_code) == (503, 503)
    assert "model 'lrea' was unloaded just now" in refused.json()["error"]


async def test_the_service_stays_ready_after_the_default_model_was_unloaded(world: World):
    world.publish(OLD, "lrea")
    world.publish(NEW, "din")
    async with world.service(default_model="lrea") as service:
        ready = []
        for model in ("lrea", "din"):
            await service.follower.unload(model, "just now")
            ready.append((await service.ready()).status_code)
        await service.follower.load("din")
        ready.append((await service.ready()).status_code)
    assert ready == [200, 503, 200]
