"""Commands on the cache: `status` and `rollback`."""

import re
from pathlib import Path

import pytest

from builder.publish.blue_green import publish
from builder.publish.cache import CacheClient
from builder.publish.generations import read_pointer
from models.contract.announcement import SERVICES_KEY, Announcement, heartbeat_key
from tests.builder.cli.conftest import Call
from tests.builder.published import SPEC, generation_of, publish_new, records


def test_what_is_no_cache_is_refused_without_showing_a_password(call: Call) -> None:
    finished = call("status", "--cache", "http://me:secret@cache:1/0")

    assert finished.code == 1
    assert "http://cache:1/0: not a cache URL; expected embedded:[folder], redis://" in finished.err
    assert "secret" not in finished.err + finished.out


def test_status_shows_what_serves(call: Call, server: Path, client: CacheClient) -> None:
    pointer = publish_new(client)

    finished = call("status", "--cache", f"embedded:{server}")

    assert finished.code == 0
    lines = [line.split(maxsplit=1) for line in finished.out.splitlines()]
    assert ["lrea"] in lines
    assert ["serves", pointer.current.name] in lines
    assert ["artifact", pointer.current.artifact_id] in lines
    assert ["users", "20 of 20"] in lines
    assert "roll back to    nothing" in finished.out


def test_users_of_live_events_are_told_from_those_of_the_build(
    call: Call, server: Path, client: CacheClient
) -> None:
    current = publish_new(client).current
    client.set(current.key("new"), b"a record that a worker made")

    out = call("status", "--cache", f"embedded:{server}").out

    assert "20 of the build, 1 of live events" in out


def test_status_of_an_empty_cache_says_so(call: Call, server: Path, client: CacheClient) -> None:
    assert "no model is published" in call("status", "--cache", f"embedded:{server}").out


def test_names_stay_whole_for_copying_on_a_narrow_terminal(
    call: Call, server: Path, client: CacheClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.cli.progress_bar.console._width", 20)
    first = publish_new(client).current
    second = publish_new(client).current

    out = call("status", "--cache", f"embedded:{server}").out

    for name in (first.name, second.name, second.artifact_id):
        assert name in out
    assert first.name in call("rollback", "lrea", "--cache", f"embedded:{server}").out


def test_rollback_makes_the_previous_generation_serve(call: Call, server, client) -> None:
    first = publish_new(client).current
    publish_new(client)

    finished = call("rollback", "lrea", "--cache", f"embedded:{server}")

    assert finished.code == 0
    assert f"{first.name} serves again" in re.sub(r"\s+", " ", finished.out)
    pointer, _ = read_pointer(client, "lrea")
    assert pointer is not None
    assert pointer.current == first


def test_rollback_of_what_was_never_published_is_refused(call: Call, server, client) -> None:
    finished = call("rollback", "lrae", "--cache", f"embedded:{server}")

    assert finished.code == 1
    assert finished.err == "error: model 'lrae': got no published generation, expected one\n"


def test_rollback_names_the_services_that_do_not_follow(call: Call, server, client) -> None:
    first = publish_new(client).current
    second = publish_new(client).current
    client.sadd(SERVICES_KEY, "stuck-1", "quick-2")
    stuck = Announcement({"lrea": second.name}, problems={"lrea": "artifact: gone"})
    client.set(heartbeat_key("stuck-1"), stuck.to_bytes(), ex=60)
    quick = Announcement({"lrea": first.name})
    client.set(heartbeat_key("quick-2"), quick.to_bytes(), ex=60)

    finished = call("rollback", "lrea", "--wait", "0.1", "--cache", f"embedded:{server}")

    assert finished.code == 1
    assert f"{first.name} is served by quick-2" in finished.out
    assert finished.err.endswith("follow as soon as they can:\n  - stuck-1: artifact: gone\n")
    pointer, _ = read_pointer(client, "lrea")
    assert pointer is not None
    assert pointer.current == first  # the flip stays
    again = call("rollback", "lrea", "--wait", "0", "--cache", f"embedded:{server}")
    assert (again.code, again.err) == (0, "")


def test_rollback_without_services_says_so(call: Call, server, client) -> None:
    publish_new(client)
    publish_new(client)
    finished = call("rollback", "lrea", "--cache", f"embedded:{server}")
    assert finished.code == 0
    assert "no running service follows this cache" in finished.out


def test_the_default_model_is_shown_and_chosen(call: Call, server, client) -> None:
    cache = ["--cache", f"embedded:{server}"]
    assert "none answers them yet" in call("default", *cache).out
    publish(client, generation_of(3, "zeta"), records(3), SPEC)
    publish_new(client)  # lrea

    shown, status = call("default", *cache), call("status", *cache)
    assert "requests that name no model: zeta answers them" in shown.out
    assert "default model: zeta" in status.out
    refused = call("default", "lrae", *cache)
    assert refused.code == 1
    assert "got 'lrae', expected one of: lrea, zeta; did you mean 'lrea'?" in refused.err
    client.sadd(SERVICES_KEY, "set-1")
    client.set(heartbeat_key("set-1"), Announcement({}, default="sim").to_bytes(), ex=60)
    chosen = call("default", "lrea", *cache)
    assert chosen.code == 0
    assert "default model: lrea; it was zeta" in chosen.out
    assert "but service set-1: sim (ABSORB_DEFAULT_MODEL" in chosen.out
