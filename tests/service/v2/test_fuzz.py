"""Mutated requests of the V2 protocol, through the application: no status of 500, and a reason for every refusal.

The draws are the same in every run; `make fuzz` draws others, and more.
"""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.v2.messages import BYTES, DTYPES
from tests.fuzzing import check_refusal, drawn, serving
from tests.service.toy import Toy
from tests.service.v2.test_http import INFER, LENGTH, in_bytes, in_json, packed
from tests.service.world import World

MAX_BYTES = 1 << 16
LENGTHS = [
    b"",
    b"0",
    b"-1",
    b"+5",
    b"1e3",
    b" 7",
    b"0x10",
    b"7.0",
    b"9" * 5000,
    "٣".encode(),
    b"\xb2",
]
"""Other values of the header's length that a client may send."""

PLACED = Toy(candidate_names=("display", "mailer"))
NAMES = ["user_id", "candidates", "recent", "hour", "display", "mailer"]
WORDS = ["", "scores", *NAMES, "BF16", BYTES, *DTYPES, "ø", "\0"]
NUMBERS = [-1, 0, 1, 2, 3, 255, 2**31, 2**63, 2**64, 10**30, -(2**63) - 1, 1e308, 0.5]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.floats(),
    st.integers(),
    st.sampled_from(WORDS),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
SHAPES = st.lists(st.sampled_from(NUMBERS[:10]), max_size=4) | st.just([1] * 5000)
FIELDS: list[tuple[tuple[str | int, ...], st.SearchStrategy[Any]]] = [
    (("inputs",), VALUES),
    (("inputs", 0), VALUES),
    (("inputs", 1), VALUES),
    (("inputs", 1, "name"), st.sampled_from(WORDS) | VALUES),
    (("inputs", 0, "datatype"), st.sampled_from(WORDS)),
    (("inputs", 1, "datatype"), st.sampled_from(WORDS)),
    (("inputs", 0, "shape"), SHAPES),
    (("inputs", 1, "shape"), SHAPES),
    (("inputs", 1, "shape"), VALUES),
    (("inputs", 1, "data"), st.lists(SCALARS, min_size=3, max_size=3) | VALUES),
    (("inputs", 1, "parameters"), VALUES),
    (("inputs", 1, "parameters"), st.fixed_dictionaries({"binary_data_size": SCALARS})),
    (("inputs", 2, "name"), st.sampled_from(WORDS) | VALUES),
    (("inputs", 2, "datatype"), st.sampled_from(WORDS)),
    (("inputs", 2, "shape"), SHAPES),
    (("inputs", 2, "data"), st.lists(SCALARS, min_size=3, max_size=3) | VALUES),
    (("id",), VALUES),
    (("outputs",), VALUES),
    (("outputs",), st.lists(st.fixed_dictionaries({"name": st.sampled_from(WORDS)}), max_size=3)),
    (("parameters",), VALUES),
    (
        ("parameters",),
        st.dictionaries(
            st.sampled_from(["timeout", "priority", "binary_data_output", "sequence_id"]), SCALARS
        ),
    ),
]


def replaced(document: Any, path: tuple[str | int, ...], value: object) -> Any:
    """The document with one place of it changed, where there is such a place."""
    first, *rest = path
    if isinstance(document, dict) and isinstance(first, str):
        inner = replaced(document.get(first, {}), tuple(rest), value) if rest else value
        return {**document, first: inner}
    if isinstance(document, list) and isinstance(first, int) and first < len(document):
        inner = replaced(document[first], tuple(rest), value) if rest else value
        return [*document[:first], inner, *document[first + 1 :]]
    return document


@st.composite
def documents(draw: st.DrawFn, document: Any) -> bytes:
    """A JSON document with one to three places changed; NaN, and halves of characters, are let through."""
    for _ in range(draw(st.integers(1, 3))):
        path, values = draw(st.sampled_from(FIELDS))
        document = replaced(document, path, draw(values))
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def broken_bytes(draw: st.DrawFn, raw: bytes) -> bytes:
    """The bytes: truncated, with inserted bytes, or with an invalid length."""
    at = draw(st.integers(0, len(raw)))
    some = draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xff\0\0"]))
    return draw(st.sampled_from([raw, raw[:at], raw[at:], raw[:at] + some + raw[at + len(some) :]]))


@st.composite
def packed_bodies(draw: st.DrawFn, raw: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The body, and a Content-Encoding that is seldom the right one."""
    packers: list[Callable[[bytes], bytes]] = [gzip.compress, zlib.compress, bytes]
    pack = draw(st.sampled_from(packers))
    said = draw(
        st.sampled_from([b"gzip", b"deflate", b"x-gzip", b"GZIP", b"br", b"gzip, gzip", b""])
    )
    return draw(broken_bytes(pack(raw))), {"content-encoding": said}


def placed() -> Any:
    """A request that gives a candidate field."""
    document = in_json()
    values = ["front", "ceiling", ""]
    field = {"name": "display", "shape": [3], "datatype": BYTES, "data": values}
    return {**document, "inputs": [*document["inputs"], field]}


@st.composite
def in_json_broken(draw: st.DrawFn) -> tuple[bytes, dict[str, bytes]]:
    raw = draw(documents(draw(st.sampled_from([in_json(), placed()]))))
    if draw(st.booleans()):
        return raw, {}
    return draw(st.one_of(broken_bytes(raw).map(lambda one: (one, {})), packed_bodies(raw)))


@st.composite
def in_bytes_broken(draw: st.DrawFn) -> tuple[bytes, dict[str, bytes]]:
    body, headers = in_bytes()
    size = int(headers[LENGTH])
    header = draw(st.just(body[:size]) | documents(json.loads(body[:size])))
    tail = draw(broken_bytes(body[size:]))
    said = len(header) + draw(st.sampled_from([0, 0, 0, 1, -1, len(tail), len(tail) + 1]))
    length = draw(st.just(str(said).encode()) | st.sampled_from(LENGTHS))
    return header + tail, {LENGTH: length}


@pytest.mark.parametrize("requests", [in_json_broken(), in_bytes_broken()], ids=["json", "binary"])
def test_no_request_breaks_the_service(
    requests: st.SearchStrategy[tuple[bytes, dict[str, bytes]]], world: World
):
    statuses = set()
    with serving(world, PLACED, max_body_bytes=MAX_BYTES) as send:

        @drawn(80)
        @given(requests)
        def run(request: tuple[bytes, dict[str, bytes]]) -> None:
            body, headers = request
            response = send("POST", INFER, body, headers)
            check_refusal(response)
            statuses.add(response.status_code)

        run()
    assert {200, 400} <= statuses  # neither all nor none of the draws were requests


def hostile(shape: Sequence[int]) -> bytes:
    document = in_json()
    document["inputs"][1]["shape"] = list(shape)
    return json.dumps(document).encode()


def test_no_request_takes_much_more_memory_than_its_body(world: World):
    zeros = packed([""] * (MAX_BYTES // 5))
    header = in_bytes()[0].replace(b"[3]", f"[{MAX_BYTES // 5}]".encode())
    bodies: list[tuple[bytes, dict[str, bytes]]] = [
        (gzip.compress(bytes(1 << 24)), {"content-encoding": b"gzip"}),
        (zlib.compress(bytes(1 << 24)), {"content-encoding": b"deflate"}),
        (b"[" * MAX_BYTES, {}),
        (b'{"inputs":' + b"[" * (MAX_BYTES // 2 - 6) + b"]" * (MAX_BYTES // 2 - 6) + b"}", {}),
        (hostile([2**62, 2**62]), {}),
        (hostile([1] * (MAX_BYTES // 8)), {}),
        (hostile([10**9]), {}),
        (header[:100] + zeros, {LENGTH: b"100"}),
    ]
    with serving(world, max_body_bytes=MAX_BYTES) as send:
        assert send("POST", INFER, hostile([3]), {}).status_code == 200
        for body, headers in bodies:
            tracemalloc.start()
            response = send("POST", INFER, body, headers)
            _, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            check_refusal(response)
            assert response.status_code in (400, 413)
            assert peak_bytes < 64 * MAX_BYTES, (body[:20], peak_bytes)
