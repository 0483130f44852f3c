"""Hostile protobufs, and frames of HTTP/2 that no client sends, at a real process: it goes on, its log stays clean.

The draws are the same in every run; `make fuzz` draws others, and more.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from loadtest.chaos.http2 import (
    DATA,
    END_HEADERS,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Peer,
    data,
    frame,
    head,
    message,
)
from tests.fuzzing import drawn
from tests.service.toy import Toy
from tests.service.v2.grpc_door import CALL, Door, open_door
from tests.service.v2.test_grpc_server import message as two_scores
from tests.service.v2.test_grpc_server import refused

PLACED = Toy(candidate_names=("display", "mailer"))
INFER = f"{CALL}ModelInfer"
PATH = INFER.encode()
MAX_BYTES = 1 << 20
REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
CALLS = ["ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"]
UNEXPECTED = ("Traceback", "request failed", "Unexpected [", "exception", "Segmentation")
READ_S = 0.02


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    settings = {"max_body_bytes": str(MAX_BYTES), "body_timeout_s": "0.5"}
    with open_door(tmp_path_factory.mktemp("fuzz"), {"toy": PLACED}, **settings) as door:
        yield door
        assert door.client.is_server_live()
        text = door.log.read_text()
        assert not [word for word in UNEXPECTED if word in text]
        assert all(line.startswith("{") for line in text.splitlines())  # gRPC's own are no JSON


WORDS = st.sampled_from(["", "toy", "user_id", "candidates", "recent", "display", "ø", "\0"])
TEXTS = WORDS | st.text(max_size=8)
NUMBERS = st.sampled_from([0, 1, -1, 2, 3, 255, 2**31, 2**40, 2**63 - 1, -(2**63)])
SHAPES = st.lists(NUMBERS, max_size=4) | st.just([1] * 5000)
DATATYPES = st.sampled_from(["BYTES", "INT64", "UINT8", "FP32", "FP16", "BOOL", "BF16", ""])
VALUES = st.one_of(
    st.builds(pb.InferParameter, int64_param=NUMBERS),
    st.builds(pb.InferParameter, bool_param=st.booleans()),
    st.builds(pb.InferParameter, string_param=TEXTS),
    st.builds(pb.InferParameter, double_param=st.floats()),
    st.just(pb.InferParameter()),
)
NAMES = st.sampled_from(["timeout", "priority", "binary_data_size", "shared_memory_region"])
PARAMETERS = st.dictionaries(NAMES | TEXTS, VALUES, max_size=3)
CONTENTS = st.builds(
    pb.InferTensorContents,
    bool_contents=st.lists(st.booleans(), max_size=3),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    int64_contents=st.lists(NUMBERS, max_size=3),
    uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=3),
    fp32_contents=st.lists(st.floats(width=32), max_size=3),
    bytes_contents=st.lists(st.binary(max_size=5), max_size=3),
)
TENSORS = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=TEXTS,
    datatype=DATATYPES,
    shape=SHAPES,
    parameters=PARAMETERS,
    contents=CONTENTS,
)
OUTPUTS = st.builds(
    pb.ModelInferRequest.InferRequestedOutputTensor, name=TEXTS, parameters=PARAMETERS
)
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "model_name": TEXTS,
    "model_version": TEXTS,
    "id": TEXTS,
    "parameters": PARAMETERS,
    "inputs": st.lists(TENSORS, max_size=3),
    "outputs": st.lists(OUTPUTS, max_size=3),
    "raw_input_contents": st.lists(st.binary(max_size=9), max_size=3),
}


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A request with some fields changed, and then perhaps broken bytes."""
    chosen = draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=3, unique=True))
    request = two_scores(**{name: draw(CHANGES[name]) for name in chosen})
    for tensor in request.inputs:
        if draw(st.booleans()):
            tensor.MergeFrom(draw(TENSORS))
    raw: bytes = request.SerializeToString()
    at = draw(st.integers(0, len(raw)))
    some = draw(st.binary(max_size=8))
    broken = [raw, raw[:at], raw[at:], raw[:at] + some + raw[at + len(some) :]]
    return draw(st.sampled_from([raw, raw, *broken])) if draw(st.booleans()) else raw


def test_no_message_breaks_the_service(door: Door):
    codes = set()

    @drawn(300)
    @given(st.sampled_from(CALLS), messages() | st.binary(max_size=50))
    def run(call: str, raw: bytes) -> None:
        ask: Any = door.channel.unary_unary(CALL + call)
        try:
            ask(raw, timeout=30)
            codes.add("OK")
        except grpc.RpcError as error:
            failed: Any = error
            assert failed.code().name in REFUSALS, (failed.code(), failed.details())
            assert failed.details()
            codes.add(failed.code().name)

    run()
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= codes


METADATA = st.tuples(
    st.sampled_from(
        [b"grpc-timeout", b"grpc-encoding", b"x-request-id", b"authorization", b"x-bin", b"te"]
    )
    | st.binary(max_size=9),
    st.sampled_from([b"gzip", b"-1S", b"1n", b"\xff\xfe", b"x" * 20_000, b"Bearer x"])
    | st.binary(max_size=30),
)
PATHS = st.sampled_from([PATH, PATH, b"/", b"", b"/\xff\xfe", PATH + b"\xff", b"/a" * 5000])
GOOD: bytes = message(two_scores().SerializeToString())
FRAMES: dict[str, st.SearchStrategy[bytes]] = {
    "head": st.builds(
        lambda path, more, stream, flags: head(path, *more, stream=stream, flags=flags),
        PATHS | st.binary(max_size=20),
        st.lists(METADATA, max_size=3),
        st.sampled_from([1, 1, 3, 5, 2, 0, 2**31 - 1]),
        st.sampled_from([END_HEADERS, END_HEADERS, 0, 5, 0xFF]),
    ),
    "data": st.builds(
        data,
        st.sampled_from([GOOD, GOOD[:9], b"", message(b"", length=2**32 - 1), b"\x02" * 9])
        | st.builds(message, st.binary(max_size=40), st.booleans()),
        st.sampled_from([1, 1, 3, 0, 7]),
        st.booleans(),
    ),
    "settings": st.builds(
        lambda raw, flags: frame(SETTINGS, flags, 0, raw),
        st.binary(max_size=24) | st.just(b"\0\4\x7f\xff\xff\xff") | st.just(b"\0\4\0\0\0\0"),
        st.sampled_from([0, 1]),
    ),
    "reset": st.builds(
        lambda stream, raw: frame(RST_STREAM, 0, stream, raw),
        st.sampled_from([1, 3, 0, 9]),
        st.sampled_from([b"\0\0\0\x08", b"", b"\xff" * 4]),
    ),
    "any": st.builds(
        frame,
        st.integers(0, 12),
        st.integers(0, 255),
        st.sampled_from([0, 1, 3, 2**31 - 1]),
        st.binary(max_size=40),
    ),
    "bytes": st.binary(max_size=30),
    "long": st.just((0xFFFFFF).to_bytes(3, "big") + bytes([DATA, 0, 0, 0, 0, 1])),
    "block": st.builds(lambda raw: frame(HEADERS, END_HEADERS, 1, raw), st.binary(max_size=60)),
}
SENT = st.lists(st.one_of(*FRAMES.values()), min_size=1, max_size=5)


async def speak(port: int, greets: bool, parts: Sequence[bytes]) -> int:
    """Send the parts on one connection; return how many frames came back in a moment."""
    peer = await Peer.open(port, greets=False)
    came = 0
    try:
        await peer.send((PREFACE + frame(SETTINGS, 0, 0) if greets else b"") + b"".join(parts))
        async with asyncio.timeout(READ_S):
            while await peer.read() is not None:
                came += 1
    except (TimeoutError, ConnectionError):
        pass
    finally:
        peer.abort()
    return came


def test_no_frames_break_the_service(door: Door):
    is_live: Any = door.channel.unary_unary(f"{CALL}ServerLive")

    @drawn(150)
    @given(st.sampled_from([True] * 9 + [False]), SENT)
    def run(greets: bool, parts: list[bytes]) -> None:
        asyncio.run(speak(door.port, greets, parts))
        assert is_live(b"", timeout=30)
        assert door.process.poll() is None

    run()


def tensor(name: str, size: int, **contents: Any) -> Any:
    return pb.ModelInferRequest.InferInputTensor(
        name=name,
        datatype="BYTES" if "bytes_contents" in contents else "INT64",
        shape=[size],
        contents=pb.InferTensorContents(**contents),
    )


ANN = tensor("user_id", 1, bytes_contents=[b"ann"])
MANY = MAX_BYTES - 300
FLAG = pb.InferParameter(bool_param=True)
LARGE: dict[str, Callable[[], Any]] = {
    "numbers": lambda: {"inputs": [ANN, tensor("candidates", MANY, int64_contents=[1] * MANY)]},
    "numbers for few": lambda: {
        "inputs": [ANN, tensor("candidates", 3, int64_contents=[1] * MANY)]
    },
    "texts for few": lambda: {
        "inputs": [ANN, tensor("candidates", 3, bytes_contents=[b""] * (MANY // 2))]
    },
    "recent": lambda: {"inputs": [ANN, tensor("recent", MANY, int64_contents=[1] * MANY)]},
    "inputs": lambda: {"inputs": [pb.ModelInferRequest.InferInputTensor()] * (MANY // 2)},
    "outputs": lambda: {
        "outputs": [pb.ModelInferRequest.InferRequestedOutputTensor()] * (MANY // 2)
    },
    "parameters": lambda: {"parameters": {f"{at:x}": FLAG for at in range(MANY // 16)}},
    "raw contents": lambda: {"raw_input_contents": [b""] * (MANY // 2)},
    "shape": lambda: {"inputs": [pb.ModelInferRequest.InferInputTensor(shape=[1] * MANY)]},
}
REPEATED = 5
DEARER = 150.0
"""A message of 1 MiB may cost as much as this many small ones. The dearest was measured at 33, where gRPC's own parser
takes most of it, and at 68 while other processes emptied the processor's caches; before lengths were checked first, it
was 1,900."""


def test_a_refused_message_costs_little_processor_time(door: Door):
    process = psutil.Process(door.process.pid)

    def used_s() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    def cost_s(request: Any, times: int) -> float:
        before_s = used_s()
        for _ in range(times):
            assert refused(door, request)[0] == "INVALID_ARGUMENT"
        return (used_s() - before_s) / times

    small = two_scores(parameters={"timeout": pb.InferParameter(int64_param=-1)})
    small_s = max(cost_s(small, 40 * REPEATED), 1e-4)
    for name, fields in LARGE.items():
        request = two_scores(**fields()).SerializeToString()
        assert len(request) < MAX_BYTES
        assert cost_s(request, REPEATED) < DEARER * small_s, name
