"""Which key grants which request, and which settings keep the service from starting."""

import hashlib
from typing import Any

import pytest
from pydantic import ValidationError

from service.errors import AccessError
from service.settings import Settings
from service.tools.keys import new_key
from service.transport.auth import Access, Role, exposure_problem, is_loopback
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio
SCORING, ITS_HASH = new_key()
OTHER, OTHERS_HASH = new_key()
ADMIN, ADMINS_HASH = new_key()
BODY = {"user_id": "ann", "candidates": ["i1"]}
LOCKED: dict[str, Any] = {"api_keys": f"{OTHERS_HASH},{ITS_HASH}", "admin_keys": ADMINS_HASH}
LOAD = "/v2/repository/models/toy/load"
OPEN = ["/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"]
CLOSED = ["/v1/models", "/v1/users/ann", "/v1/cache", "/v2", "/docs", "/openapi.json", "/nowhere"]
ADMIN_ROUTES = [
    LOAD,
    "/v2/repository/models/toy/unload",
    "/v2/logging",
    "/v2/trace/setting",
    "/v2/models/toy/trace/setting",
]


def key(value: str) -> dict[str, str]:
    return {"X-API-Key": value}


async def test_scoring_needs_a_known_key(world: World):
    world.publish(Toy())
    async with world.service(**LOCKED) as service:

        async def ask(**headers: str) -> Any:
            return await service.client.post(
                "/v1/score", json=BODY, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )

        for known in (SCORING, OTHER, ADMIN):
            assert (await ask(X_API_Key=known)).status_code == 200
            assert (await ask(Authorization=f"Bearer {known}")).status_code == 200
            assert (await ask(authorization=f"bearer  {known}")).status_code == 200
        refused = [
            await ask(),
            await ask(X_API_Key=""),
            await ask(X_API_Key=SCORING[:-1]),
            await ask(X_API_Key=ITS_HASH),
            await ask(Authorization=f"Basic {SCORING}"),
            await ask(Authorization="Bearer ", X_API_Key=SCORING),
        ]
    assert {one.status_code for one in refused} == {401}
    assert {one.headers["www-authenticate"] for one in refused} == {"Bearer"}
    assert refused[0].json()["error"].startswith("key: got none, expected a known key")
    assert SCORING[:-1] not in refused[2].text


async def test_probes_and_metrics_need_none_and_all_else_does(world: World):
    world.publish(Toy())
    async with world.service(**LOCKED) as service:
        for path in OPEN:
            assert (await service.client.get(path)).status_code == 200, path
        for path in CLOSED:
            assert (await service.client.get(path)).status_code == 401, path
            known = await service.client.get(path, headers=key(SCORING))
            assert known.status_code in {200, 404}, path
        for path in ("/health/live/", "//health/live", "/health/live/../../v1/models"):
            assert (await service.client.get(path)).status_code == 401, path
    async with world.service(**LOCKED, metrics_need_key=True) as service:
        assert (await service.client.get("/metrics")).status_code == 401
        assert (await service.client.get("/metrics", headers=key(SCORING))).status_code == 200


async def test_slow_requests_are_shown_to_administrators(world: World):
    async with world.service(**LOCKED) as service:
        answers = [await service.client.get("/v1/slow", headers=key(k)) for k in (SCORING, ADMIN)]
    assert [answer.status_code for answer in answers] == [403, 200]


@pytest.mark.parametrize("path", ADMIN_ROUTES)
async def test_what_changes_the_service_needs_an_administrators_key(world: World, path: str):
    world.publish(Toy())
    async with world.service(**LOCKED) as service:
        none = await service.client.post(path)
        scoring = await service.client.post(path, headers=key(SCORING))
        admin = await service.client.post(path, headers=key(ADMIN))
    assert (none.status_code, scoring.status_code) == (401, 403)
    assert "expected an administrator's" in scoring.json()["error"]
    assert admin.status_code in {200, 405}  # no key may change log and trace settings


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({}, 200),
        ({"host": "::1"}, 200),
        ({"host": "0.0.0.0", "allow_open": True}, 403),
        ({"host": "0.0.0.0", "admin_keys": ADMINS_HASH}, 401),
        ({"admin_keys": ADMINS_HASH}, 401),
        ({"api_keys": ITS_HASH}, 403),
    ],
)
async def test_without_keys_the_service_obeys_on_loopback_only(
    world: World, settings: dict[str, Any], status: int
):
    world.publish(Toy())
    async with world.service(**settings) as service:
        known = key(SCORING) if "api_keys" in settings else {}
        assert (await service.client.post(LOAD, headers=known)).status_code == status
        scored = await service.client.post("/v1/score", json=BODY, headers=known)
        assert scored.status_code == 200


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("absorb.example", False),
        ("", False),
    ],
)
async def test_it_starts_open_on_loopback_only(host: str, is_local: bool):
    assert is_loopback(host) == is_local
    problem = exposure_problem(Settings(host=host))
    assert (problem is None) == is_local
    assert exposure_problem(Settings(host=host, api_keys=ITS_HASH)) is None
    assert exposure_problem(Settings(host=host, allow_open=True)) is None


BAD_HASHES = {
    "a key": SCORING,
    "a comma": f"{ITS_HASH},",
    "a digit too few": "f" * 63,
    "a space": f"{ITS_HASH} {OTHERS_HASH}",
}


# By name: keys are random, and each process that runs tests makes its own.
@pytest.mark.parametrize("kind", BAD_HASHES)
async def test_settings_that_hold_no_hashes_are_refused_but_for_commas(kind: str):
    bad = BAD_HASHES[kind]
    if bad.endswith(","):
        assert Settings(api_keys=bad).api_keys == ITS_HASH
        return
    with pytest.raises(ValidationError, match="64 hexadecimal digits each"):
        Settings(admin_keys=bad)


async def test_a_key_and_its_hash_belong_together():
    made, its_hash = new_key()
    assert hashlib.sha256(made.encode()).hexdigest() == its_hash
    assert made != new_key()[0]
    assert len(made) >= 43


def refused(access: Access, needed: Role, headers: dict[str, str]) -> str:
    with pytest.raises(AccessError) as caught:
        access.check(needed, headers)
    return str(caught.value)


async def test_a_refusal_says_what_came():
    access = Access(Settings(**LOCKED))
    access.check(
        Role.SCORING, {"x-api-key": SCORING}
    )  # as gRPC passes metadata: names in lower case
    access.check(Role.ADMIN, {"authorization": f"BEARER {ADMIN}"})
    assert "got none" in refused(access, Role.SCORING, {})
    assert "got an unknown one" in refused(access, Role.SCORING, {"x-api-key": "x"})
    assert "got an unknown one" in refused(access, Role.SCORING, {"authorization": "Bearer x"})
    assert "got one for scoring" in refused(access, Role.ADMIN, {"x-api-key": SCORING})
    open_access = Access(Settings(host="0.0.0.0", allow_open=True))
    open_access.check(Role.SCORING, {})
    assert "got no administrator's key" in refused(open_access, Role.ADMIN, {"x-api-key": ADMIN})


async def test_a_key_of_both_roles_has_the_higher_one():
    access = Access(Settings(api_keys=ADMINS_HASH, admin_keys=ADMINS_HASH))
    access.check(Role.ADMIN, {"x-api-key": ADMIN})
