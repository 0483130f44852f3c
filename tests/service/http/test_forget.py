"""DELETE /v1/users/{id}: who may, what it removes, and that neither answer nor log names the user."""

import hashlib
import json
import logging
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from models.live.forget import forget_in_cache
from models.live.keys import FORGOTTEN_KEY, TOUCHED_KEY, log_key, tombstone
from service.store import forgetting
from tests.service.toy import AS_OF_S, Toy
from tests.service.world import Running, World, until

pytestmark = pytest.mark.anyio
ADMIN, SCORING = "an administrator", "a client"


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture(autouse=True)
def empty(world: World) -> None:
    with world.redis as client:
        client.flushall()


def everything(world: World) -> bytes:
    with world.redis as client:
        client.config_set("rdbcompression", "no")
        keys: list[bytes] = list(client.scan_iter())
        return b"\n".join(part for key in keys for part in (key, client.dump(key) or b""))


async def test_a_user_is_removed_and_kept_out(world: World, caplog: pytest.LogCaptureFixture):
    generation = world.publish(Toy())
    caplog.set_level(logging.INFO)
    async with world.service(access_log="INFO") as service:
        event = {"user_id": "ann", "item_id": "i1", "ts_s": AS_OF_S, "event_id": "e1"}
        assert (await service.client.post("/v1/events", json=event)).status_code == 202

        answer = await service.client.delete("/v1/users/ann")

        assert answer.status_code == 200
        body = answer.json()
        assert body["user"] == tombstone("ann")
        assert body["new"] is True
        counts = {row["what"]: row["number"] for row in body["removed"]}
        assert counts == {
            "record": 1,
            "live events": 1,
            "mark of new events": 1,
            "absorb:{events}:in": 1,
        }
        assert body["removed"][0]["generation"] == generation.name
        assert "ann" not in answer.text
        assert b"ann" not in everything(world)
        again = (await service.client.delete("/v1/users/ann")).json()
        assert (again["new"], again["removed"]) == (False, [])
        assert (await service.client.post("/v1/events", json=event)).status_code == 410
        assert (await service.client.get("/v1/users/ann")).status_code == 404
        assert (await service.client.get("/v1/users/bob")).status_code == 200
    lines = [json.dumps(vars(record), default=str) for record in caplog.records]
    assert any(tombstone("ann") in line for line in lines)
    assert not any("/ann" in line or "'ann'" in line for line in lines if "httpx" not in line)


@pytest.mark.parametrize("user", ["a%2Fb", "a%20b%3F", "%C3%A4"])
async def test_ids_with_the_characters_of_a_path(world: World, user: str):
    from urllib.parse import unquote

    world.publish(Toy())
    async with world.service() as service:
        answer = await service.client.delete(f"/v1/users/{user}")
    assert answer.json()["user"] == tombstone(unquote(user))


@pytest.mark.parametrize("user", ["a%09b", "x" * 129])
async def test_what_cannot_be_an_id_is_refused_without_repeating_it(world: World, user: str):
    world.publish(Toy())
    async with world.service() as service:
        answer = await service.client.delete(f"/v1/users/{user}")
    assert answer.status_code == 400
    assert "user_id: got what cannot be an id" in answer.text
    assert "xxx" not in answer.text
    with world.redis as client:
        assert not client.exists(FORGOTTEN_KEY)


async def test_only_administrators_may(world: World):
    world.publish(Toy())
    keys: dict[str, Any] = {"api_keys": hashed(SCORING), "admin_keys": hashed(ADMIN)}
    async with world.service(**keys) as service:
        delete = service.client.delete
        assert (await delete("/v1/users/ann")).status_code == 401
        assert (await delete("/v1/users/ann", headers={"x-api-key": SCORING})).status_code == 403
        with world.redis as client:
            assert not client.exists(FORGOTTEN_KEY)
        assert (await delete("/v1/users/ann", headers={"x-api-key": ADMIN})).status_code == 200
    async with world.service(api_keys=hashed(SCORING)) as service:
        answer = await service.client.delete("/v1/users/ann", headers={"x-api-key": SCORING})
        assert answer.status_code == 403


async def test_a_page_of_another_site_may_not(world: World):
    world.publish(Toy())
    async with world.service() as service:
        headers = {"origin": "https://evil.example"}
        answer = await service.client.delete("/v1/users/ann", headers=headers)
    assert answer.status_code == 403


async def test_without_the_right_to_remove_the_tombstone_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """The rights of the service in docker/cache/users.acl."""
    generation = world.publish(Toy())
    rights = "on nopass resetkeys resetchannels -@all +ping +hello +client|setinfo %R~absorb:*"
    own = "(~absorb:{control}:forgotten +hsetnx +hexists +hmget)"
    make = forgetting._client
    with world.redis as client:
        client.execute_command("ACL", "SETUSER", "limited", *rights.split(), own)

    def limited(url: str) -> Any:
        made: Any = make(url)
        made.connection_pool.connection_kwargs |= {"username": "limited", "password": "x"}
        return made

    monkeypatch.setattr(forgetting, "_client", limited)
    async with world.service() as service:
        answer = await service.client.delete("/v1/users/ann")
        assert answer.status_code == 202
        assert "remove nothing: absorb forget" in answer.json()["to_do"][0]
        with world.redis as client:
            assert client.hexists(FORGOTTEN_KEY, tombstone("ann"))
            assert client.exists(generation.key("ann"))
            client.execute_command("ACL", "SETUSER", "limited", "reset", *rights.split())
        refused = await service.client.delete("/v1/users/bob")
        assert refused.status_code == 503
        assert "does not let this service write tombstones" in refused.text
        assert "bob" not in refused.text
    with world.redis as client:
        client.execute_command("ACL", "DELUSER", "limited")


async def test_a_cache_that_is_down_is_503_without_the_id(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(Toy())
    make = forgetting._client
    monkeypatch.setattr(forgetting, "_client", lambda url: make("redis://127.0.0.1:1"))
    async with world.service() as service:
        answer = await service.client.delete("/v1/users/ann")
    assert answer.status_code == 503
    assert "ann" not in answer.text
    with world.redis as client:
        assert not client.exists(TOUCHED_KEY, log_key("ann"))


async def test_captures_of_a_forgotten_user_leave_every_service(world: World, tmp_path: Path):
    world.publish(Toy())
    folder = tmp_path / "slow"
    async with world.service(slow_ms=1e-6, slow_dir=folder) as service, running(service):
        await until(lambda: service.dependencies.tiers.changes.is_following)
        for user in ("ann", "bob"):
            await service.score(user)
        await until(lambda: b"bob" in written(folder))
        with world.redis as client:
            forget_in_cache(client, "ann")
        await until(lambda: b"ann" not in written(folder))
        shown = (await service.client.get("/v1/slow")).text
        assert '"ann"' not in shown
        assert "bob" in shown
        await service.score("ann")
        await service.score("bob")
        await until(lambda: written(folder).count(b"bob") > 3)
        assert b"ann" not in written(folder)


async def test_a_service_that_was_away_asks_for_the_users_of_its_captures(
    world: World, tmp_path: Path
):
    world.publish(Toy())
    folder, file = tmp_path / "slow", tmp_path / "warm.jsonl"
    async with world.service(slow_ms=1e-6, slow_dir=folder) as service:
        for user in ("ann", "bob"):
            await service.score(user)
    file.write_bytes(written(folder))
    with world.redis as client:
        forget_in_cache(client, "ann")

    later = world.service(slow_ms=1e-6, slow_dir=folder, warm_up_file=file)
    async with later as service, running(service):
        await until(lambda: b"ann" not in written(folder) + file.read_bytes())

    assert b"bob" in written(folder)
    assert b"bob" in file.read_bytes()


def running(service: Running) -> AbstractAsyncContextManager[Any]:
    """The background tasks of a service."""
    return service.app.router.lifespan_context(service.app)


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.jsonl")))
