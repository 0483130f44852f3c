"""Mutated generation pointers: refused with the reason, or followed; every other model follows on."""

import asyncio
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.chaos.faults.hostile_pointers import (
    ANOTHER_MODEL,
    NUMBER_FIELDS,
    NUMBERS,
    OVERWRITTEN,
    TEXT_FIELDS,
    TEXTS,
    hostile_pointers,
)
from models.contract.errors import MAX_ECHOED, GenerationError
from models.contract.generation import MAX_POINTER_BYTES, Generation, Pointer, pointer_key
from tests.fuzzing import drawn
from tests.service.toy import Toy
from tests.service.world import Running, World

GENERATION = Generation("toy", "20261122T031500Z-0a1b2c", "0" * 32, 2, 7, 8, "fp16")
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(NUMBERS)
    | st.sampled_from(TEXTS)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(TEXT_FIELDS) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
OVER = st.lists(st.just(OVERWRITTEN) | VALUES, max_size=12)
PATHS = [
    (),
    ("current",),
    ("previous",),
    ("next",),
    *((place, name) for place in ("current", "previous") for name in (*TEXT_FIELDS, "over", "x")),
    *((place, name) for place in ("current", "previous") for name in NUMBER_FIELDS),
]
CHANGES = st.lists(st.tuples(st.sampled_from(PATHS), VALUES | OVER), min_size=1, max_size=3)


def changed(pointer: Any, changes: list[tuple[tuple[str, ...], Any]]) -> bytes:
    """A pointer as JSON with some places replaced; a place that is not there any more is left."""
    pointer = copy.deepcopy(pointer)
    for path, value in changes:
        if not path:
            pointer = copy.deepcopy(value)
            continue
        *above, last = path
        place = pointer
        for name in above:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = copy.deepcopy(value)
    return json.dumps(pointer).encode()


@st.composite
def pointers(draw: st.DrawFn) -> bytes:
    generation = GENERATION.to_dict()
    raw = changed({"current": generation, "previous": dict(generation)}, draw(CHANGES))
    cut = draw(st.none() | st.integers(0, len(raw)))
    raw = raw if cut is None else raw[:cut] + draw(st.binary(max_size=8)) + raw[cut:]
    opening = draw(st.sampled_from([b"[", b'{"current":', b" "]))
    return opening * draw(st.sampled_from([0, 0, 0, 1, 900, 1100, 16000, 100_000])) + raw


def check_parsed(raw: bytes) -> None:
    """Check that the pointer is refused with a short reason, or is what it was parsed from."""
    try:
        pointer = Pointer.from_bytes(raw, "key")
    except GenerationError as error:
        problem = str(error)
    else:
        problem = ""
    assert len(problem) < MAX_ECHOED + 100
    if problem:
        return
    assert len(raw) <= MAX_POINTER_BYTES
    assert Pointer.from_bytes(pointer.to_bytes(), "key") == pointer
    pointer.current.key("user").encode()
    float(pointer.current.created_s)


@given(pointers())
@drawn(400)
def test_a_mutated_pointer_is_refused_or_survives_a_round_trip(raw: bytes):
    check_parsed(raw)


def test_every_hostile_pointer_is_refused():
    good = Pointer(GENERATION, None).to_bytes()
    for name, raw in hostile_pointers(good):
        if name == ANOTHER_MODEL:
            continue  # the follower refuses it
        with pytest.raises(GenerationError):
            Pointer.from_bytes(raw, name)


@pytest.fixture(scope="module")
def follow(module_world: World) -> Iterator[Callable[[bytes], None]]:
    """Put a pointer of `toy`, publish `zeta`, let the service follow, and check that it did."""
    module_world.publish(Toy())
    with asyncio.Runner() as runner:
        service = module_world.service()
        running: Running = runner.run(service.__aenter__())

        def check(raw: bytes) -> None:
            module_world.put(pointer_key("toy"), raw)
            other = module_world.publish(Toy(), "zeta", states={})
            runner.run(running.follower.poll())
            assert running.selection.serving["zeta"].generation == other
            assert "toy" in running.selection.serving
            assert runner.run(running.client.get("/metrics")).status_code == 200
            assert running.metric("absorb_poll_failures_total") == 0

        yield check
        runner.run(service.__aexit__(None, None, None))


@given(raw=pointers())
@drawn(40)
def test_a_mutated_pointer_never_stops_another_model(follow: Callable[[bytes], None], raw: bytes):
    follow(raw)
