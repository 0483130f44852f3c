"""`absorb follow --dead-letters` on a real cache."""

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from models.live.keys import DEAD_KEY
from service.follow.sources.redis_stream import RedisStreamSource
from service.follow.sources.source import Delivery
from service.tools.dead_letters import SHOWN
from service.tools.follow import app
from tests.service.world import World


def call(url: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setenv("ABSORB_CACHE_URL", url)
    return CliRunner().invoke(app, ["--dead-letters"])


def test_dead_letters_are_shown_with_time_and_reason(world: World, monkeypatch):
    assert call(world.url, monkeypatch).output == "no dead letters\n"
    with Redis.from_url(world.url) as client:
        client.xadd(DEAD_KEY, {"e": b"{", "reason": "too \x1b[1mold"}, id="1514779200000-0")
        RedisStreamSource(client, "w").bury(Delivery("5-0", b'{"a": 1}\xff', None, ""), "no event")
    result = call(world.url, monkeypatch)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[:2] == ["2018-01-01 04:00:00 UTC  too \ufffd[1mold", "    {"]
    assert lines[2].endswith(" UTC  no event")
    assert lines[3:] == ['    {"a": 1}\ufffd', "2 of 2 dead letters"]


def test_the_newest_are_shown(world: World, monkeypatch):
    with Redis.from_url(world.url) as client:
        for number in range(SHOWN + 5):
            client.xadd(DEAD_KEY, {"e": b"x", "reason": f"reason {number}"})
    lines = call(world.url, monkeypatch).output.splitlines()
    assert lines[-1] == f"{SHOWN} of {SHOWN + 5} dead letters"
    assert [line.split("  ")[1] for line in lines[:-1:2]] == [f"reason {n}" for n in range(5, 25)]


def test_a_cache_that_does_not_answer_is_named(monkeypatch):
    result = call("unix:///tmp/nothing-here.sock", monkeypatch)
    assert result.exit_code == 1
    assert "nothing-here.sock" in result.output
