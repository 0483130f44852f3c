"""The users of the compose stack's cache, on a real server with the very file that compose mounts.

Builder, service, worker and load generator do all that they do, and the server's own log shows no refusal; what none of
them needs is refused.
"""

import asyncio
import itertools
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError

from builder.errors import LockHeldError
from builder.publish.blue_green import publish
from builder.publish.cache import connect_cache
from builder.publish.capacity import load_of_spec, measured
from builder.publish.generations import new_generation, rollback
from builder.publish.live_events import catch_up_with
from builder.publish.lock import hold_lock
from builder.publish.rolling import publish_in_place
from builder.publish.services import announcements, wait_until_served
from builder.publish.status import status
from models.contract.announcement import SERVICES_KEY, heartbeat_key
from models.contract.artifact import Artifact
from models.contract.generation import (
    MODELS_KEY,
    Pointer,
    lock_key,
    pointer_key,
)
from models.contract.prototypes import Prototypes
from models.contract.record import record_version
from models.live.event import Event
from models.live.history import BaseHistory, encode_history
from models.live.keys import (
    CHANGED_KEY,
    DEAD_KEY,
    DONE_KEY,
    FOLLOWERS_KEY,
    FORGOTTEN_KEY,
    IN_KEY,
    TOUCHED_KEY,
    coming_key,
    log_key,
    tombstone,
)
from models.live.log import append
from models.live.new_items import NewItem, drop_items, put_items, registered
from models.live.store import compare_and_remove
from models.live.window import MAX_LATENESS_S
from service.follow.graph import load_folder
from service.follow.sources.redis_stream import RedisStreamSource
from service.follow.targets import Targets
from service.follow.worker import Worker
from service.settings import Settings
from service.store.event_log import EventLog
from service.store.redis import RedisStore
from service.tools.dead_letters import dead_letter_lines
from service.tools.follow import connect
from service.tools.published import read_published
from tests.cluster import running_cluster
from tests.docker.compose_cache import ComposeCache, command_of, compose_cache, password
from tests.docker.dockerfile import ROOT
from tests.service.toy import AS_OF_S, SPEC, Toy
from tests.service.world import HISTORIES, Running, World, record_of

USERS_FILE = ROOT / "docker/cache/users.acl"
RECORD = "absorb:toy:20260101T000000Z-000000:ann"
HEARTBEAT = heartbeat_key("a-service")
NEVER = ("FLUSHALL", "FLUSHDB", "CONFIG GET *", "KEYS *", "SHUTDOWN", "ACL LIST", "MONITOR",
         "SAVE", "REPLICAOF NO ONE", "SCRIPT FLUSH", "CLIENT LIST", "INFO", "SUBSCRIBE x", "RENAME a b")  # fmt: skip
"""Commands that only the administrator may send."""


@pytest.fixture(scope="module")
def stack() -> Iterator[ComposeCache]:
    with compose_cache() as cache:
        yield cache


@pytest.fixture
def server(stack: ComposeCache) -> ComposeCache:
    """Empty, and with an empty log of refusals."""
    with stack.client("admin") as admin:
        admin.flushall()
        admin.acl_log_reset()
    return stack


def publish_toy(url: str, world: World, seed: int = 0, in_place: bool = False) -> Pointer:
    """What a build publishes, as the user of the builder."""
    toy = Toy(seed, prototypes=Prototypes({"kind": ["bread", "milk"]}, [(2,), (3,)]))
    artifact = toy.save(world.artifacts)
    records = [
        (user, record_of(user, toy.state(past), artifact)) for user, past in HISTORIES.items()
    ]
    generation = new_generation(
        "toy", artifact.artifact_id, len(records), AS_OF_S, "fp32", datetime.now(UTC)
    )
    client = connect_cache(url)
    histories = [(user, history_of(user, artifact)) for user in HISTORIES]
    more: Any = {"histories": histories, "catch_up": catch_up_with(client, artifact)}
    if in_place:
        return publish_in_place(client, generation, records, SPEC, wait_s=30.0, **more)
    return publish(client, generation, records, SPEC, **more)


def history_of(user: str, artifact: Artifact) -> bytes:
    rows, ts_s = np.array([2], np.int32), np.array([AS_OF_S - 9])
    fields = np.ones(1, np.int32)
    return encode_history(BaseHistory(user, artifact.artifact_id, AS_OF_S, fields, rows, ts_s))


async def post_an_event(running: Running) -> None:
    posted = await running.client.post("/v1/events", json={"user_id": "ann", "item_id": "i5"})
    assert posted.status_code == 202, posted.text


@pytest.mark.anyio
async def test_builder_and_service_do_all_they_do_and_nothing_is_refused(server, tmp_path):
    world = World(server.url("service"), tmp_path)
    first = publish_toy(server.url("builder"), world)
    second = publish_toy(server.url("builder"), world, seed=1)
    builder = connect_cache(server.url("builder"))
    async with world.service() as running:
        for _ in range(2):
            await running.dependencies.tiers.changes.read(0.01)
        assert (await running.score())["generation"] == second.current.name
        assert (await running.client.get("/v1/users/ann")).status_code == 200
        prefetched = await running.client.post("/v1/prefetch", json={"user_ids": ["ann", "bob"]})
        assert prefetched.status_code == 202
        item = {"item_id": "n1", "fields": {"kind": "bread"}}
        added = await running.client.post("/v1/items", json={"items": [item]})
        assert added.status_code == 200, added.text
        put_items(builder, [NewItem("n2", {"kind": "milk"}, AS_OF_S)])
        assert set(registered(builder).items) == {"n1", "n2"}
        assert drop_items(builder, ["n2"]) == 1
        assert (await running.client.delete("/v1/items/n1")).status_code == 204
        # The first look at the pointers announced the service.
        (announced,) = announcements(builder).values()
        assert announced.loaded == {"toy": second.current.name}
        assert wait_until_served(builder, "toy", second.current.name, 0.0).missing == {}
        assert rollback(builder, "toy").current == first.current
        await running.follower.poll()
        assert (await running.score())["generation"] == first.current.name
        await post_an_event(running)
        rolling = asyncio.create_task(
            asyncio.to_thread(publish_toy, server.url("builder"), world, 2, True)
        )
        while not rolling.done():  # it waits for the service, which follows at each look
            await running.follower.poll()
            await asyncio.sleep(0.01)
        assert (await running.score())["state"]["source"] == "hit"
        assert (await rolling).current.place == first.current.name
    with server.client("admin") as admin:  # the publish folded the event before its last flip
        assert record_version(admin.get(first.current.key("ann"))) == 1
    (row,) = status(builder)
    assert row.pointer
    assert row.records
    assert row.record_bytes
    load = load_of_spec("toy", 3, SPEC, 3, 3)
    assert measured(builder, row.pointer.current, load, SPEC).measured == len(HISTORIES)
    assert server.denials() == []


def test_a_builder_waits_for_the_lock_and_renews_it(server, monkeypatch):
    monkeypatch.setattr("builder.publish.lock.RENEW_EVERY_S", 0.02)
    monkeypatch.setattr("builder.publish.lock.TTL_S", 0.3)
    client, other = connect_cache(server.url("builder")), connect_cache(server.url("builder"))
    assert other.set(lock_key("toy"), "a builder that was killed", px=200)
    with hold_lock(client, "toy") as lock:
        with pytest.raises(LockHeldError), hold_lock(other, "toy"):
            pass  # the first holder has renewed it while this one waited
        assert lock.is_confirmed()
    assert client.get(lock_key("toy")) is None
    assert server.denials() == []


def test_the_load_generator_reads_and_nothing_is_refused(server, tmp_path):
    publish_toy(server.url("builder"), World("", tmp_path))
    settings = Settings(cache_url=server.url("reader"), artifact_dir=tmp_path)
    assert sorted(read_published(settings, None, 10).users) == sorted(HISTORIES)
    assert server.denials() == []


@pytest.mark.parametrize("user", ["builder", "service", "worker", "reader"])
def test_only_the_administrator_administers(server, user):
    with server.client(user) as client:
        for command in NEVER:
            with pytest.raises(NoPermissionError):
                client.execute_command(*command.split())
    assert {name for name, _ in server.denials()} == {user}


@pytest.mark.parametrize(
    "write",
    [
        ("SET", RECORD, "x"),
        ("SET", pointer_key("toy"), "x"),
        ("SET", lock_key("toy"), "x"),
        ("SET", SERVICES_KEY, "x"),
        ("SADD", MODELS_KEY, "x"),
        ("SADD", HEARTBEAT, "x"),
        ("DEL", RECORD),
        ("UNLINK", RECORD),
        ("EXPIRE", RECORD, "1"),
        ("GETDEL", RECORD),
        ("APPEND", RECORD, "x"),
        ("SREM", SERVICES_KEY, "x"),
        ("EVAL", "return 1", "0"),
        ("SCAN", "0"),
        ("GET", "another-key"),
    ],
    ids=" ".join,
)
def test_the_service_writes_only_its_announcement_and_events(server, write):
    with server.client("service") as client:
        with pytest.raises(NoPermissionError):
            client.execute_command(*write)
        assert client.execute_command("SADD", SERVICES_KEY, "a-service") == 1
        assert client.execute_command("SET", HEARTBEAT, "{}", "EX", "60")


def test_the_service_accepts_events(server):
    async def append() -> None:
        store = RedisStore(server.url("service"), 2.0)
        await EventLog(store, 10).append([Event("e1", "ann", "i1", AS_OF_S)])
        await store.close()

    asyncio.run(append())
    with server.client("admin") as admin:
        assert admin.execute_command("ACL", "LOG") == []
    with server.client("service") as client, pytest.raises(NoPermissionError):
        client.hgetall(log_key("ann"))


def new_worker(client: Any, world: World, name: str) -> tuple[Worker, RedisStreamSource]:
    """A worker that takes over at once what others left, and reads the pointers at each step."""
    source = RedisStreamSource(client, name, claim_idle_s=0.0, claim_every_s=0.0)
    ticks = itertools.count()
    targets = Targets(
        client, lambda name: load_folder(world.artifacts, name), (), lambda: float(next(ticks))
    )
    return Worker(client, source, targets, lambda: AS_OF_S + 60.0 + 2.0 * next(ticks)), source


def settle(worker: Worker) -> None:
    deadline = time.monotonic() + 60.0
    while worker.step() or worker.targets.is_loading or any(worker.targets.behind.values()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_does_all_it_does_and_nothing_is_refused(server, tmp_path):
    world = World(server.url("service"), tmp_path)
    pointer = publish_toy(server.url("builder"), world)
    with server.client("admin") as admin:
        append(admin, "ann", [Event("too old", "ann", "i1", AS_OF_S - MAX_LATENESS_S - 1)])
        admin.zadd(TOUCHED_KEY, {"ann": 1000 * AS_OF_S})
    client = connect(server.url("worker"))
    worker, source = new_worker(client, world, "alive")
    settle(worker)  # makes the group, loads the artifact, catches up
    with server.client("admin") as admin:
        put_items(admin, [NewItem("i5", {"kind": "bread"}, AS_OF_S)])
        admin.xadd(IN_KEY, {"e": b"no event"})
        for user in ("ann", "new", "gone"):
            admin.xadd(IN_KEY, {"e": Event("e1", user, "i5", AS_OF_S + 1).to_bytes()})
        admin.hset(FORGOTTEN_KEY, tombstone("gone"), AS_OF_S)
    _, dead = new_worker(client, world, "dead")
    assert len(dead.read(2, 0.1)) == 2
    settle(worker)
    for one in (source, dead):
        one.close()

    record = pointer.current.key("ann")
    with server.client("admin") as admin:
        assert record_version(admin.get(record)) == 2
        assert admin.hkeys(log_key("ann")) == [b"", b"e1"]  # the old one was removed
        assert admin.exists(log_key("new"), pointer.current.key("new"), FOLLOWERS_KEY) == 3
        assert admin.exists(log_key("gone"), pointer.current.key("gone")) == 0
        assert (admin.xlen(IN_KEY), admin.xlen(DEAD_KEY), int(admin.get(DONE_KEY))) == (0, 1, 4)
        assert admin.xlen(CHANGED_KEY) >= 2
        assert admin.xinfo_consumers(IN_KEY, "follow") == []
        raw = admin.get(record)
    assert len(list(dead_letter_lines(client, ""))) == 2
    # What it does if a user is forgotten between two of its commands.
    assert compare_and_remove(client, record, raw) == 1
    assert client.unlink(log_key("ann")) == client.zrem(TOUCHED_KEY, "ann") == 1
    assert server.denials() == []


@pytest.mark.parametrize(
    "command",
    [
        ("SET", pointer_key("toy"), "x"),
        ("SET", coming_key("toy"), "x"),
        ("SET", lock_key("toy"), "x"),
        ("DEL", FORGOTTEN_KEY),
        ("HSET", FORGOTTEN_KEY, "x", "1"),
        ("HGETALL", FORGOTTEN_KEY),
        ("SADD", MODELS_KEY, "x"),
        ("SET", HEARTBEAT, "{}"),
        ("DEL", IN_KEY),
        ("XADD", IN_KEY, "*", "e", "x"),
        ("SET", "absorb.history:toy:20260101T000000Z-000000:ann", "x"),
        ("EVAL", "return redis.call('set', KEYS[1], 'x')", "1", pointer_key("toy")),
        ("EVAL", "return redis.call('set', 'absorb:{control}:default', 'x')", "1", RECORD),
        ("SCAN", "0"),
        ("GET", "another-key"),
    ],
    ids=" ".join,
)
def test_the_worker_writes_no_pointer_and_no_tombstone(server, command):
    with server.client("worker") as client:
        with pytest.raises((NoPermissionError, redis.exceptions.ResponseError)) as refused:
            client.execute_command(*command)
        assert re.search("permission|NOPERM", str(refused.value))


@pytest.mark.parametrize(
    "write", [("SET", RECORD, "x"), ("SADD", SERVICES_KEY, "x"), ("UNLINK", RECORD)]
)
def test_the_reader_writes_nothing(server, write):
    with server.client("reader") as client, pytest.raises(NoPermissionError):
        client.execute_command(*write)


def test_the_builder_writes_no_key_of_another_program(server):
    with server.client("builder") as client:
        for command in (("SET", "session:1", "x"), ("GET", "session:1"), ("UNLINK", "session:1")):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)
        with pytest.raises(redis.exceptions.ResponseError, match=r"permission|NOPERM"):
            client.eval("return redis.call('set', 'session:1', 'x')", 0)


def test_nobody_enters_without_a_password(server):
    url = f"unix://{server.socket}"
    with redis.Redis.from_url(url) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()
    for user, given in (
        ("service", "wrong"),
        ("default", password("admin")),
        ("builder", password("service")),
    ):
        guess = f"unix://{user}:{given}@{server.socket}"
        with redis.Redis.from_url(guess) as client, pytest.raises(AuthenticationError):
            client.ping()


def test_the_health_check_needs_no_password_and_can_only_ping(server):
    with redis.Redis.from_url(f"unix://health:none@{server.socket}") as client:
        assert client.ping()
        for command in (("GET", RECORD), ("DBSIZE",), ("FLUSHALL",), ("ACL", "WHOAMI")):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


def test_the_server_knows_no_password_and_keeps_all_records(server):
    with server.client("admin") as admin:
        for name in ("builder", "service", "worker", "reader", "admin"):
            (digest,) = admin.acl_getuser(name)["passwords"]
            assert len(digest) == 64
        assert admin.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert admin.config_get("maxmemory") == {"maxmemory": str(64 << 20)}
        assert admin.config_get("appendonly") == {"appendonly": "yes"}
    text = (server.socket.parent / "users.acl").read_text()
    assert not any(
        password(name) in text for name in ("builder", "service", "worker", "reader", "admin")
    )
    assert (server.socket.parent / "users.acl").stat().st_mode & 0o077 == 0


def test_the_cache_does_not_start_without_a_password(tmp_path):
    command, environment = command_of(tmp_path)
    for name in [name for name in environment if name.endswith("_PASSWORD")]:
        done = subprocess.run(
            command, env={**environment, name: ""}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, name in done.stderr) == (2, True)


@pytest.mark.anyio
async def test_the_users_serve_a_cluster_with_the_commands_that_the_page_adds(tmp_path):
    page = (ROOT / "docs/operations.md").read_text()
    (more,) = re.findall(r"A Redis Cluster needs\s+`([^`]+)`", page)
    users = dict(re.findall(r"^user (\w+) on #\S+ (.*)$", USERS_FILE.read_text(), re.M))
    with running_cluster() as cluster:
        for node in cluster.nodes:
            for name in ("builder", "service", "worker", "reader"):
                rules = re.findall(r"\([^)]*\)|\S+", f"{users[name]} {more}")
                node.ask("ACL", "SETUSER", name, "on", f">{password(name)}", *rules)
        urls = {name: cluster.url.replace("://", f"://{name}:{password(name)}@") for name in users}
        world = World(urls["service"], tmp_path)
        pointer = publish_toy(urls["builder"], world)
        async with world.service() as running:
            assert (await running.score())["state"]["source"] == "hit"
            (announced,) = announcements(connect_cache(urls["builder"])).values()
            assert announced.loaded == {"toy": pointer.current.name}
            await post_an_event(running)
        worker, source = new_worker(connect(urls["worker"]), world, "one")
        settle(worker)
        source.close()
        assert worker.tally.events == 1
        settings = Settings(cache_url=urls["reader"], artifact_dir=tmp_path)
        assert sorted(read_published(settings, None, 10).users) == sorted(HISTORIES)
        refused = [entry for node in cluster.nodes for entry in node.ask("ACL", "LOG")]
        assert refused == []


def test_the_page_names_every_right():
    page = (ROOT / "docs/operations.md").read_text()
    rows: dict[str, str] = {}
    name = ""
    for line in page.partition("### Users of the cache")[2].partition("\n## ")[0].splitlines():
        if line.startswith("|"):
            cells = line.split("|")
            name = cells[1].strip(" `") or name
            rows[name] = rows.get(name, "") + cells[3]
    for user, rules in re.findall(r"^user (\w+) on #\S+ (.*)$", USERS_FILE.read_text(), re.M):
        given = set(re.findall(r"\+([a-z|]+)", rules)) - {"ping", "client|setinfo"}
        named = {word.upper().replace("|", " ") for word in given}
        listed = set(re.findall(r"[A-Z]{3,}(?: [A-Z]+)*", rows[user]))
        assert listed == named or user == "admin", user
