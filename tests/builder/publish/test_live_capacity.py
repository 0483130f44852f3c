"""The memory that a plan counts for live events is the memory that a real server uses."""

import secrets

import numpy as np
import pytest

from builder.publish.blue_green import publish
from builder.publish.capacity import GIB, computed_history, load_of_spec, make_plan, measured
from builder.publish.live_capacity import (
    CHANGED_BYTES,
    DEAD_LETTER_BYTES,
    STREAM_BYTES,
    TOUCHED_BYTES,
    WAITING_EVENT_BYTES,
    Live,
)
from models.live.event import Event
from models.live.history import BaseHistory, encode_history
from models.live.keys import CHANGED_KEY, DEAD_KEY, IN_KEY, TOUCHED_KEY, history_pattern, log_key
from models.live.log import append
from tests.builder.published import ARTIFACT, SPEC, generation_of, raw_record

MANY = 20_000
USERS = [f"household:{number:06}" for number in range(MANY)]


def bought(number: int, user: str = USERS[0]) -> Event:
    return Event(secrets.token_hex(16), user, f"item{number:06}", 1_700_000_000 + number, "buy")


@pytest.mark.parametrize("events", [1, 5, 10, 50, 500])
def test_a_log_takes_what_is_counted(client, events: int):
    append(client, USERS[0], [bought(number) for number in range(events)])
    used = client.memory_usage(log_key(USERS[0]), samples=0)
    assert Live(events=float(events)).log_bytes - TOUCHED_BYTES == pytest.approx(used, rel=0.1)


def test_streams_and_the_list_of_users_take_what_is_counted(client):
    letter = {"e": bought(1).to_bytes(), "reason": f"ts_s: got 1, expected {'x' * 70}", "at": "1"}
    with client.pipeline(transaction=False) as pipeline:
        for user in USERS:
            place = "20261122T031500Z-0a1b2c"
            pipeline.zadd(TOUCHED_KEY, {user: 1_700_000_000_000})
            pipeline.xadd(CHANGED_KEY, {"m": "lrea", "p": place, "u": user})
            pipeline.xadd(IN_KEY, {"e": letter["e"]})
            pipeline.xadd(DEAD_KEY, letter)
        pipeline.execute()
    for key, expected in {
        TOUCHED_KEY: TOUCHED_BYTES,
        CHANGED_KEY: CHANGED_BYTES,
        IN_KEY: WAITING_EVENT_BYTES,
        DEAD_KEY: DEAD_LETTER_BYTES,
    }.items():
        assert client.memory_usage(key, samples=0) / MANY == pytest.approx(expected, rel=0.1), key


def history_of(user: str, events: int) -> bytes:
    rows, times = np.full(events, 5, np.int32), np.arange(events, dtype=np.int64)
    return encode_history(BaseHistory(user, ARTIFACT, 7, np.full(2, 1, np.int32), rows, times))


def test_base_histories_are_measured_on_those_that_are_published(client):
    users = USERS[:300]
    records = ((user, raw_record(user)) for user in users)
    histories = ((user, history_of(user, 50)) for user in users)
    pointer = publish(client, generation_of(300), records, SPEC, histories=histories)

    load = measured(client, pointer.current, load_of_spec("lrea", 300, SPEC, 1, 16), SPEC)

    used = sum(
        client.memory_usage(key, samples=0)
        for key in client.scan_iter(history_pattern("lrea", pointer.current.place), 1000)
    )
    need = make_plan(load, 0, 1)[0]
    assert used > 300 * 8 * 50
    for mode, builds in {"rolling": 1, "blue_green": 2, "blue_green_peak": 3}.items():
        histories_gib = need.parts[mode]["base histories"]
        assert histories_gib * GIB == pytest.approx(builds * (used + 18 * 300), rel=0.02)
    # Computed for jemalloc, which rounds up by a quarter at most; measured with libc.
    computed = computed_history("lrea", 16, 2, 50)
    assert load.live.history_bytes <= computed + 16 <= 1.3 * load.live.history_bytes


def test_a_generation_without_base_histories_has_none(client):
    records = ((user, raw_record(user)) for user in USERS[:20])
    pointer = publish(client, generation_of(20), records, SPEC)
    load = load_of_spec("lrea", 20, SPEC, 1, 16)
    assert measured(client, pointer.current, load, SPEC).live.history_bytes == 0


def test_what_is_counted_is_the_sum_of_its_parts():
    live = Live(1000.0, 10.0, sum(STREAM_BYTES.values()))
    bare = load_of_spec("lrea", 1_000_000, SPEC, 1, 16)
    load = type(bare)(**{**bare.__dict__, "live": live})
    for need, records in zip(make_plan(load, 1, 2), make_plan(bare, 1, 2), strict=True):
        for mode, builds in {"rolling": 1, "blue_green": 2, "blue_green_peak": 3}.items():
            parts = need.parts[mode]
            assert list(parts) == ["records", "base histories", "live logs", "streams"]
            assert parts["records"] == pytest.approx(records.gib[mode])
            assert parts["base histories"] * GIB == pytest.approx(builds * 1e9)
            assert parts["live logs"] * GIB == pytest.approx(1e6 * live.log_bytes)
            assert need.gib[mode] == pytest.approx(sum(parts.values()))
            assert need.maxmemory_bytes[mode] > need.gib[mode] * GIB / 2
