"""The memory that a plan computes is the memory that a real server uses."""

import time

import numpy as np
import pytest

from builder.publish.blue_green import publish
from builder.publish.capacity import (
    GIB,
    HEADROOM,
    SERVER_BYTES,
    load_of_bytes,
    load_of_spec,
    make_plan,
    measured,
    stored_bytes,
)
from models.contract.record import UserRecord, encode_record, record_bytes
from models.contract.state_spec import RECORD_DTYPES, TensorSpec
from tests.builder.published import ARTIFACT, SPEC, generation_of, publish_new

SIZES = (100, 1000, 2100, 5000, 9000)


def settled_bytes(client) -> int:
    """Memory of the server once its log's buffer is written and it frees nothing any more."""
    seen = [0, 1 << 40]
    while max(seen[-4:]) - min(seen[-4:]) > 20_000:
        time.sleep(0.3)
        seen.append(int(client.info("memory")["used_memory"]))
    return seen[-1]


@pytest.mark.parametrize("size", SIZES)
def test_what_a_key_takes_is_what_the_servers_memory_grows_by(client, size: int):
    """The server of the tests allocates with libc."""
    number, name = 4000, "absorb:lrea:20261122T031500Z-0a1b2c:user-{:08d}"
    client.execute_command("FLUSHALL", "SYNC")
    before = settled_bytes(client)
    with client.pipeline(transaction=False) as pipeline:
        for user in range(number):
            pipeline.set(name.format(user), bytes(size))
            if user % 200 == 199:  # what waits in a connection is memory, too
                pipeline.execute()
    grown = (settled_bytes(client) - before) / number
    expected = stored_bytes(len(name.format(0)), size, "libc")
    assert expected == pytest.approx(grown, abs=32, rel=0.02)


@pytest.mark.parametrize(
    ("size", "rounded"),
    [(1, 16), (16, 16), (17, 32), (128, 128), (129, 160), (257, 320), (4096, 4096), (4097, 5120)],
)
def test_jemallocs_size_classes(size: int, rounded: int):
    from builder.publish.capacity import _jemalloc

    assert _jemalloc(size) == rounded


@pytest.mark.parametrize(
    ("size", "usable"),
    [(1, 24), (24, 24), (25, 40), (40, 40), (41, 56), (1000, 1000), (1001, 1016)],
)
def test_glibcs_sizes(size: int, usable: int):
    from builder.publish.capacity import _libc

    assert _libc(size) == usable


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (252, 256), (253, 320),  # a header of 3 bytes, and one that ends the string
        (506, 512), (507, 640),  # of 5 bytes
        (81_910, 81_920), (81_911, 98_304),  # of 9 bytes, from 65,536 on
    ],
)  # fmt: skip
def test_the_header_of_a_value_is_rounded_up_with_it(value: int, rounded: int):
    key = 44  # with its object: 64 bytes
    assert stored_bytes(key, value, "jemalloc") == rounded + 64 + 18


def test_the_computed_memory_of_a_user_is_what_jemalloc_gives():
    load = load_of_bytes("lrea", 1, {"fp32": 4000, "int8": 1000}, 9)
    users = {need.dtype: need.user_bytes for need in make_plan(load, 0, 1)}
    assert load.key_bytes == len("absorb:lrea:20261122T031500Z-0a1b2c:") + 9
    assert users == {
        "fp32": stored_bytes(load.key_bytes, 4000, "jemalloc"),
        "int8": stored_bytes(load.key_bytes, 1000, "jemalloc"),
    }


def test_a_published_model_is_measured(client):
    pointer = publish_new(client, 1500)
    load = load_of_spec("lrea", 1500, SPEC, 1, 9)
    measured_load = measured(client, pointer.current, load, SPEC)
    used = sum(
        client.memory_usage(key, samples=0)
        for key in client.scan_iter(pointer.current.key_pattern(), 1000)
    )
    (need,) = [one for one in make_plan(measured_load, 0, 1) if one.dtype == "fp16"]
    assert measured_load.measured == 200
    assert need.gib["rolling"] * GIB == pytest.approx(used + 18 * 1500, rel=0.02)
    assert need.record_bytes == pytest.approx(record_bytes(SPEC, "fp16", 9, 1), abs=1)


def test_sizes_of_every_dtype_are_means_over_the_rows_that_users_fill(client):
    """Of 40 users, every fourth fills all 64 rows, the others two."""
    spec = (
        TensorSpec("items", (64,), "int32", "first"),
        TensorSpec("sums", (64, 4), filled="first"),
    )
    expected = dict.fromkeys(RECORD_DTYPES, 0.0)
    packed = []
    for number in range(40):
        rows, user = (2 if number % 4 else 64), f"user:{number:02}"
        items, sums = np.zeros(64, np.int32), np.zeros((64, 4), np.float32)
        items[:rows], sums[:rows] = 5, 1.5
        record = UserRecord(user, 7, np.zeros(1, np.int32), {"items": items, "sums": sums})
        packed.append((user, encode_record(record, spec, ARTIFACT, "fp16")))
        for dtype in RECORD_DTYPES:
            expected[dtype] += len(encode_record(record, spec, ARTIFACT, dtype)) / 40
    pointer = publish(client, generation_of(40), iter(packed), spec)

    largest = load_of_spec("lrea", 40, spec, 1, 7)
    found = measured(client, pointer.current, largest, spec)

    assert (largest.is_largest, found.is_largest, found.measured) == (True, False, 40)
    assert load_of_spec("lrea", 40, (*spec, *SPEC), 1, 7).is_largest
    assert not load_of_spec("lrea", 40, SPEC, 1, 7).is_largest
    assert found.record_bytes == {dtype: round(size) for dtype, size in expected.items()}
    assert largest.record_bytes["fp16"] == len(packed[0][1]) > 2 * found.record_bytes["fp16"]


def test_a_cache_without_keys_leaves_what_is_computed(client):
    pointer = publish_new(client, 20)
    client.flushall()
    load = load_of_spec("lrea", 20, SPEC, 1, 9)
    assert measured(client, pointer.current, load, SPEC) == load


def test_builds_replicas_and_shards_multiply():
    load = load_of_bytes("lrea", 10_000_000, {"any": 4000}, 16)
    (one,), (many,) = make_plan(load, 0, 1), make_plan(load, 2, 4)
    total = 10_000_000 * one.user_bytes
    assert one.gib == many.gib
    assert one.gib["blue_green_peak"] == pytest.approx(3 * total / GIB)
    assert one.gib["blue_green"] == pytest.approx(2 * one.gib["rolling"])
    assert many.gib_with_replicas["rolling"] == pytest.approx(3 * one.gib["rolling"])
    assert many.maxmemory_bytes["rolling"] == round(HEADROOM * total / 4) + SERVER_BYTES
