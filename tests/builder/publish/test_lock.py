import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from builder.errors import LockHeldError
from builder.publish import cache
from builder.publish import lock as lock_module
from builder.publish.cache import connect_cache
from builder.publish.lock import TTL_S, hold_lock, lock_holder
from models.contract.embedded_cache import stop_server
from models.contract.errors import CacheUnavailableError
from models.contract.generation import lock_key

KEY = lock_key("lrea")


def wait_until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # pytest's own time limit ends a wait in vain
        time.sleep(0.01)


def test_a_lock_is_held_inside_the_block_only(client):
    with hold_lock(client, "lrea") as held:
        assert held.still_held()
        assert client.get(KEY) == held.token.encode()
        assert 0 < client.pttl(KEY) <= TTL_S * 1000
    assert not client.exists(KEY)


def test_a_lock_is_given_back_when_the_block_raises(client):
    with pytest.raises(ZeroDivisionError), hold_lock(client, "lrea"):
        _ = 1 / 0
    assert not client.exists(KEY)


def test_the_holder_is_named(client):
    assert lock_holder(client, "lrea") is None
    with hold_lock(client, "lrea") as held:
        holder = lock_holder(client, "lrea")

    assert holder is not None
    assert holder.startswith(f"{socket.gethostname()} pid {os.getpid()} since 20")
    assert held.token.startswith(holder)
    assert len(held.token) > len(holder) + 32  # a random part, which the holder's text lacks


def test_models_do_not_lock_each_other(client):
    with hold_lock(client, "lrea"), hold_lock(client, "din"):
        assert lock_holder(client, "lrea")
        assert lock_holder(client, "din")


def test_the_error_of_the_second_builder_names_the_holder_of_the_lock(client, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "builder.publish.lock")
    monkeypatch.setattr(
        lock_module, "RENEW_EVERY_S", 0.3
    )  # the wait ends at the first renewal that it sees
    expected = rf"model 'lrea' is being built .*\({socket.gethostname()} pid {os.getpid()} since "

    with hold_lock(client, "lrea") as held:
        with pytest.raises(LockHeldError, match=expected), hold_lock(client, "lrea"):
            pytest.fail("two builders hold one lock")
        assert held.still_held()

    assert "waiting up to 10 s for the lock held by" in caplog.text


def test_a_lock_that_never_expires_is_not_waited_for(client):
    client.set(KEY, "somebody by hand")

    with pytest.raises(LockHeldError, match="somebody by"), hold_lock(client, "lrea"):
        pytest.fail("the lock was somebody else's")


def test_the_lock_of_a_killed_builder_is_waited_for_until_it_expires(client):
    client.set(KEY, "host pid 1 since then abc", px=700)  # no builder renews it
    client.config_resetstat()

    with hold_lock(client, "lrea") as held:
        assert client.get(KEY) == held.token.encode()

    # It looks every 0.1 s, so at most 8 times.
    assert client.info("commandstats")["cmdstat_set"]["calls"] <= 8


def test_of_many_builders_at_once_one_holds_the_lock_at_a_time(client):
    inside = threading.Semaphore(1)
    turns = []

    def build(number: int) -> None:
        try:
            with hold_lock(client, "lrea"):
                assert inside.acquire(blocking=False)
                turns.append(number)
                inside.release()
        except LockHeldError:  # taken by another waiter meanwhile
            turns.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(build, range(8)))

    assert sorted(turns) == list(range(8))


def test_a_held_lock_is_renewed_beyond_its_ttl(client, monkeypatch):
    monkeypatch.setattr(lock_module, "RENEW_EVERY_S", 0.05)

    with hold_lock(client, "lrea") as held:
        client.pexpire(KEY, 400)  # most of the time to live is gone
        wait_until(lambda: client.pttl(KEY) > 5_000)
        assert held.still_held()


@pytest.mark.parametrize("taken_by", [None, "another builder"])
def test_a_lost_lock_is_noticed_and_left_alone(client, monkeypatch, caplog, taken_by):
    monkeypatch.setattr(lock_module, "RENEW_EVERY_S", 0.05)

    with hold_lock(client, "lrea") as held:
        if taken_by:
            client.set(KEY, taken_by)
        else:
            client.delete(KEY)
        wait_until(lambda: not held.still_held())

    assert client.get(KEY) == (taken_by.encode() if taken_by else None)
    assert f"lock {KEY} is lost" in caplog.text
    assert f"lock {KEY} was not released" in caplog.text


def test_a_lock_counts_as_lost_once_it_could_not_be_renewed_for_its_ttl(
    server, monkeypatch, caplog
):
    monkeypatch.setattr(cache, "NUM_RETRIES", 0)
    monkeypatch.setattr(lock_module, "TTL_S", 0.5)
    monkeypatch.setattr(lock_module, "RENEW_EVERY_S", 0.05)

    with connect_cache(f"embedded:{server}") as client, hold_lock(client, "twin") as held:
        assert held.still_held()
        stop_server(server)
        wait_until(lambda: not held.still_held())

    assert f"lock {lock_key('twin')} was not renewed" in caplog.text


def test_a_lock_needs_a_cache(server, monkeypatch):
    monkeypatch.setattr(cache, "NUM_RETRIES", 0)

    with connect_cache(f"embedded:{server}") as client:
        stop_server(server)
        with pytest.raises(CacheUnavailableError, match=f"cache unix://{server}/valkey.sock"):
            hold_lock(client, "lrea").__enter__()
