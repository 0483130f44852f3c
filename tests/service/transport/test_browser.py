"""What pages of other sites send through a user's browser is rejected: over TCP, by a running service."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tools.running_service import running_service
from tests.fuzzing import drawn, serving
from tests.service.toy import Toy
from tests.service.world import World

LOAD, UNLOAD = (f"/v2/repository/models/toy/{verb}" for verb in ("load", "unload"))
BODY = {"user_id": "ann", "candidates": ["i1"]}
CHANGING = {
    UNLOAD: {},
    LOAD: {},
    "/v1/prefetch": {"user_ids": ["ann"]},
    "/v1/score": BODY,
    "/v1/compare": BODY,
    "/v2/models/toy/infer": {},
    "/v2/repository/index": {},
    "/v2/logging": {},
    "/nowhere": {},
}
EVIL = "http://evil.example"
FOREIGN = {
    "another site": {"Origin": EVIL},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "another scheme": {"Origin": "file://{host}"},
    "no origin": {"Origin": "null"},
    "a longer name": {"Origin": "http://{host}.evil.example"},
    "a user name": {"Origin": "http://{host}@evil.example"},
    "cross-site without origin": {"Sec-Fetch-Site": "cross-site"},
    "same-site without origin": {"Sec-Fetch-Site": "same-site"},
    "rebinding": {"Origin": EVIL, "Host": "evil.example"},
    "rebinding with the port": {"Origin": f"{EVIL}:8000", "Host": "evil.example:8000"},
}
HOSTS = [
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "10.0.0.1",
    "[::2]",
]
OWN = {
    "no browser": {},
    "its own page": {"Origin": "http://{host}", "Sec-Fetch-Site": "same-origin"},
    "typed by the user": {"Sec-Fetch-Site": "none"},
    "localhost": {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"},
    "localhost without port": {"Host": "localhost", "Origin": "http://localhost:80"},
    "a name under localhost": {"Host": "absorb.localhost:{port}"},
    "a full name": {"Host": "localhost.:{port}"},
    "IPv6": {"Host": "[::1]:{port}", "Origin": "http://[::1]:{port}"},
    "another loopback address": {"Host": "127.0.0.2:{port}"},
}


@pytest.fixture(scope="module")
def client(module_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    module_world.publish(Toy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABSORB_CACHE_URL", module_world.url)
        patch.setenv("ABSORB_ARTIFACT_DIR", str(module_world.artifacts))
        patch.setenv("ABSORB_CACHE_TIMEOUT_MS", "2000")
        log = tmp_path_factory.mktemp("browser") / "log"
        with running_service(log) as url, httpx.Client(base_url=url) as client:
            yield client


def written(headers: dict[str, str], client: httpx.Client) -> dict[str, str]:
    host, port = client.base_url.netloc.decode(), client.base_url.port
    return {name: value.format(host=host, port=port) for name, value in headers.items()}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_a_page_of_another_site_changes_nothing(client: httpx.Client, headers: dict[str, str]):
    for path, body in CHANGING.items():
        answer = client.post(path, json=body, headers=written(headers, client))
        assert answer.status_code == 403, path
        assert ": got " in answer.json()["error"]
    assert client.post("/v1/score", json=BODY).status_code == 200  # the model still serves


@pytest.mark.parametrize("first", ["own", "foreign"])
@pytest.mark.parametrize("name", ["Host", "Origin", "Sec-Fetch-Site"])
def test_a_header_that_decides_comes_once(client: httpx.Client, name: str, first: str):
    own = {"Host": "{host}", "Origin": "http://{host}", "Sec-Fetch-Site": "same-origin"}
    foreign = {"Host": "evil.example", "Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
    values = [written(headers, client)[name] for headers in (own, foreign)]
    if first == "foreign":
        values.reverse()
    connection = HTTPConnection(client.base_url.netloc.decode())  # httpx refuses two hosts itself
    connection.putrequest("POST", UNLOAD, skip_host=name == "Host")
    for value in values:
        connection.putheader(name, value)
    connection.putheader("Content-Length", "0")
    connection.endheaders()
    answer = connection.getresponse()
    error = json.loads(answer.read())["error"]
    connection.close()
    assert (answer.status, error) == (403, f"{name.lower()}: got several headers, expected one")


@pytest.mark.parametrize("host", HOSTS)
def test_under_a_foreign_name_nothing_can_be_read(client: httpx.Client, host: str):
    for path in ("/v1/users/ann", "/v1/models", "/v1/cache", "/v1/slow", "/metrics", "/docs"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 403
        assert answer.json()["error"].startswith(f"host: got '{host}', expected")
    assert client.get("/health/live", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("headers", OWN.values(), ids=OWN)
def test_its_own_pages_and_programs_are_served(client: httpx.Client, headers: dict[str, str]):
    asked = written(headers, client)
    assert client.post("/v1/score", json=BODY, headers=asked).status_code == 200
    assert client.post(LOAD, headers=asked).status_code == 200


def test_following_a_link_to_the_documentation_is_allowed(client: httpx.Client):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/docs", headers=headers).status_code == 200


def test_no_redirect_leads_to_the_name_that_the_request_gave(client: httpx.Client):
    answer = client.get("/v1/models/", follow_redirects=False)
    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_requests_of_an_unloaded_model_are_told_when_and_by_which_request(client: httpx.Client):
    assert client.post(UNLOAD, headers={"X-Request-ID": "the-unload"}).status_code == 200
    try:
        for body in (BODY, {**BODY, "model": "toy"}):
            answer = client.post("/v1/score", json=body)
            assert answer.status_code == 503
            assert "model 'toy' was unloaded at 20" in answer.json()["error"]
            assert f"by request the-unload; POST {LOAD} serves it again" in answer.json()["error"]
    finally:
        assert client.post(LOAD).status_code == 200
    assert client.post("/v1/score", json=BODY).status_code == 200


KEYS = "f" * 64
SETTINGS: list[tuple[dict[str, Any], dict[str, str], int]] = [
    ({"allowed_hosts": "absorb.example"}, {"Host": "absorb.example:8000"}, 200),
    ({"allowed_hosts": "absorb.example"}, {"Host": "other.example"}, 403),
    ({"host": "0.0.0.0", "allow_open": True}, {"Host": "any.example"}, 200),
    ({"host": "0.0.0.0", "allow_open": True}, {"Host": "any.example", "Origin": EVIL}, 403),
    ({"host": "0.0.0.0", "allow_open": True, "allowed_hosts": "a"}, {"Host": "any.example"}, 403),
    ({"allowed_origins": f"https://shop.example, {EVIL}/"}, {"Origin": EVIL}, 200),
    ({"allowed_origins": EVIL}, {"Origin": f"{EVIL}:81"}, 403),
    # 401: the key decides, which no foreign page has.
    ({"api_keys": KEYS}, {"Host": "any.example", "Origin": EVIL}, 401),
    ({"api_keys": KEYS, "allowed_hosts": "absorb.example"}, {"Host": "any.example"}, 403),
    ({"api_keys": KEYS, "allowed_origins": "https://shop.example"}, {"Origin": EVIL}, 403),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("settings", "headers", "status"), SETTINGS)
async def test_settings_say_who_else_may_ask(
    world: World, settings: dict[str, Any], headers: dict[str, str], status: int
):
    world.publish(Toy())
    async with world.service(**settings) as service:
        answer = await service.client.post("/v1/score", json=BODY, headers=headers)
    assert answer.status_code == status


NAMES = st.sampled_from(
    [
        b"",
        b"null",
        b"http://",
        b"https://",
        b"[",
        b"]",
        b":",
        b"@",
        b"127.0.0.1",
        b".",
        b"evil",
        b"\xff",
    ]
)


def test_no_mixture_of_its_name_and_others_is_its_own(world: World):
    with serving(world, Toy()) as send:

        @drawn(60)
        @given(st.lists(NAMES, max_size=6), st.lists(NAMES, max_size=6))
        def run(host: list[bytes], origin: list[bytes]) -> None:
            headers = {"Host": b"".join(host), "Origin": b"".join(origin)}
            answer = send("POST", UNLOAD if b"evil" in headers["Origin"] else LOAD, b"", headers)
            assert answer.status_code in (200, 403)
            if b"evil" in headers["Origin"]:
                assert answer.status_code == 403

        run()
