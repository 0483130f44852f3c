"""The gRPC server of a real process, called by the unmodified tritonclient.

The client's stubs and the service's name the same symbols, which one process cannot hold twice: nothing here imports
the server.
"""

import json
import math
import re
import signal
import struct
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from models.contract.calibration import Temperature
from tests.hostile_records import forged, payload_at
from tests.service.toy import AS_OF_S, Toy
from tests.service.v2.grpc_door import CALL, Door, open_door
from tests.service.world import HISTORIES, RECENT, record_of

TOY = Toy()
PLACED = Toy(candidate_names=("display",), calibration=Temperature(0.7, -0.5))
VERSION = str(AS_OF_S + 60)
SLATE = ["i1", "i5", "no such"]
MAX_BYTES = 100_000


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    models = {"toy": TOY, "placed": PLACED}
    with open_door(tmp_path_factory.mktemp("grpc"), models, max_body_bytes=str(MAX_BYTES)) as door:
        yield door
        door.process.send_signal(signal.SIGTERM)
        assert door.process.wait(30) == 0  # with a client still connected


def texts(name: str, *values: str) -> Any:
    tensor = triton.InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array([one.encode() for one in values], dtype=object))
    return tensor


def slate(user: str = "ann", *candidates: str) -> list[Any]:
    return [texts("user_id", user), texts("candidates", *(candidates or SLATE))]


def message(**fields: Any) -> Any:
    """A request for two scores with typed contents."""
    tensor = pb.ModelInferRequest.InferInputTensor
    contents = pb.InferTensorContents
    inputs = [
        tensor(name=name, datatype="BYTES", shape=[len(one)], contents=contents(bytes_contents=one))
        for name, one in [("user_id", [b"ann"]), ("candidates", [b"i1", b"i5"])]
    ]
    return pb.ModelInferRequest(**{"model_name": "toy", "inputs": inputs, **fields})


def send(door: Door, request: Any, call: str = "ModelInfer", **how: Any) -> Any:
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    ask: Any = door.channel.unary_unary(CALL + call)
    return pb.ModelInferResponse.FromString(ask(raw, **how))


def refused(door: Door, request: Any, **how: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        send(door, request, **how)
    error: Any = caught.value
    return error.code().name, error.details()


def test_the_server_and_its_model_are_described(door: Door):
    client = door.client
    assert (client.is_server_live(), client.is_server_ready()) == (True, True)
    assert client.is_model_ready("toy")
    assert client.is_model_ready("toy", VERSION)
    assert not client.is_model_ready("toy", "7")
    assert not client.is_model_ready("nosuch")
    assert client.get_server_metadata().name == "absorb"
    about = client.get_model_metadata("toy")
    assert (about.name, list(about.versions)) == ("toy", [VERSION])
    inputs = {one.name: (one.datatype, list(one.shape)) for one in about.inputs}
    assert inputs["user_id"] == ("BYTES", [1])
    assert inputs["candidates"] == ("BYTES", [-1])
    config = client.get_model_config("toy").config
    assert (config.name, config.max_batch_size) == ("toy", 0)
    assert [one.name for one in config.input] == list(inputs)
    assert config.output[0].data_type == 11  # TYPE_FP32


def test_unknown_context_values_are_listed(door: Door):
    def listed(**context: str) -> Any:
        inputs = [*slate(), *(texts(name, value) for name, value in context.items())]
        parameters = door.client.infer("toy", inputs).get_response().parameters
        return json.loads(parameters["unknown_context"].string_param or "{}")

    assert listed(hour="day", device="app") == {}
    assert listed(hour="noon", device="app") == {"hour": ["noon"]}
    assert listed(hour="day") == {"device": [None]}


@pytest.mark.parametrize("value", [math.nan, 3.4e38], ids=["NaN", "huge"])
def test_a_record_that_cannot_be_scored_is_corrupt_for_its_user_alone(door: Door, value: float):
    user = f"holds {value}"  # not in the host tier yet
    key = door.generation.key(user)
    good = record_of(user, TOY.state(["i4"]), TOY.save(door.world.artifacts))
    door.world.put(key, forged(good, payload_at(good), struct.pack("<f", value) * 8))
    inputs = [texts("user_id", user, "bob"), triton.InferInput("candidates", [2, 1], "BYTES")]
    inputs[1].set_data_from_numpy(np.array([[b"i1"], [b"i1"]], dtype=object))
    answer = door.client.infer("toy", inputs)
    door.world.put(key, good)
    again = door.client.infer("toy", inputs)
    cold, own = (TOY.scores(TOY.state(history), ["i1"]) for history in ([], ["i4"]))
    bob = TOY.scores(TOY.state(HISTORIES["bob"]), ["i1"], RECENT["bob"])
    scores = [answer.as_numpy("scores"), again.as_numpy("scores")]
    assert scores[0].ravel() == pytest.approx([*cold, *bob], abs=1e-6)
    assert scores[1].ravel() == pytest.approx([*own, *bob], abs=1e-6)
    assert answer.as_numpy("state_source").tolist() == [b"corrupt", b"hit"]
    assert again.as_numpy("state_source").tolist() == [b"hit", b"hit"]


def test_scores_are_those_of_the_model(door: Door):
    answer = door.client.infer("toy", slate(), request_id="7")
    expected = TOY.scores(TOY.state(HISTORIES["ann"]), SLATE, RECENT["ann"])
    assert answer.as_numpy("scores") == pytest.approx(np.array(expected), abs=1e-6)
    assert answer.as_numpy("unknown").tolist() == [False, False, True]
    assert answer.as_numpy("state_source").tolist() == [b"hit"]
    said = answer.get_response()
    assert (said.model_name, said.model_version, said.id) == ("toy", VERSION, "7")
    assert said.parameters["degraded"].bool_param is False


def test_candidate_fields_are_tensors_beside_the_candidates(door: Door):
    display = ["front", "3", "ceiling"]
    answer = door.client.infer("placed", [*slate(), texts("display", *display)])
    state = PLACED.state(HISTORIES["ann"])
    expected = PLACED.scores(state, SLATE, RECENT["ann"], placed={"display": display})
    assert answer.as_numpy("scores") == pytest.approx(np.array(expected), abs=1e-6)
    unknown = answer.get_response().parameters["unknown_candidate_fields"].string_param
    assert json.loads(unknown) == {"display": ["ceiling"]}
    with pytest.raises(InferenceServerException, match=r"inputs\[display\].shape: got \[1\]"):
        door.client.infer("placed", [*slate(), texts("display", "front")])


def test_an_unknown_user_is_marked_as_degraded(door: Door):
    answer = door.client.infer("toy", slate("nobody")).get_response()
    assert answer.parameters["degraded"].bool_param is True
    assert "not in the cache" in answer.parameters["degraded_reason"].string_param


def test_outputs_are_chosen(door: Door):
    outputs = [triton.InferRequestedOutput("unknown"), triton.InferRequestedOutput("scores")]
    answer = door.client.infer("toy", slate(), model_version=VERSION, outputs=outputs)
    assert [one.name for one in answer.get_response().outputs] == ["unknown", "scores"]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_read(algorithm: str, door: Door):
    plain = door.client.infer("toy", slate()).as_numpy("scores")
    packed = door.client.infer("toy", slate(), compression_algorithm=algorithm)
    assert packed.as_numpy("scores").tolist() == plain.tolist()


def test_typed_contents_give_the_scores_of_raw_ones(door: Door):
    raw = door.client.infer("toy", slate("ann", "i1", "i5")).get_response()
    typed = send(door, message())
    assert typed.raw_output_contents == raw.raw_output_contents


def test_ids_may_be_numbers(door: Door):
    tensor = triton.InferInput("user_id", [1], "INT64")
    tensor.set_data_from_numpy(np.array([7], np.int64))
    raw = door.client.infer("toy", [tensor, slate()[1]])
    contents = pb.InferTensorContents(int64_contents=[7])
    request = message()
    request.inputs[0].MergeFrom(pb.ModelInferRequest.InferInputTensor(datatype="INT64"))
    request.inputs[0].contents.CopyFrom(contents)
    assert raw.as_numpy("state_source").tolist() == [b"miss"]
    assert send(door, request).parameters["degraded"].bool_param is True


def _with(**changes: Any) -> Any:
    """The request with another first input."""
    request = message()
    first = request.inputs[0]
    for name, value in changes.items():
        if name == "shape":
            first.shape[:] = value
        elif name == "parameters":
            first.MergeFrom(pb.ModelInferRequest.InferInputTensor(parameters=value))
        elif name == "contents":
            first.contents.CopyFrom(value)
        else:
            setattr(first, name, value)
    return request


CONTENTS = pb.InferTensorContents
BAD: dict[str, tuple[Any, str, str]] = {
    "no model": (message(model_name="nosuch"), "NOT_FOUND", "nosuch"),
    "no version": (message(model_version="7"), "NOT_FOUND", "7"),
    "no inputs": (pb.ModelInferRequest(model_name="toy"), "INVALID_ARGUMENT", "inputs"),
    "no message": (b"\xff\xff", "INVALID_ARGUMENT", "message"),
    "datatype": (_with(datatype="TEXT"), "INVALID_ARGUMENT", r"datatype: got 'TEXT'"),
    "half": (_with(datatype="FP16"), "INVALID_ARGUMENT", "raw_input_contents"),
    "contents of another type": (_with(datatype="INT32"), "INVALID_ARGUMENT", "0 element"),
    "too large a number": (
        _with(datatype="INT8", contents=CONTENTS(int_contents=[300])),
        "INVALID_ARGUMENT",
        "INT8",
    ),
    "no text": (_with(contents=CONTENTS(bytes_contents=[b"\xff"])), "INVALID_ARGUMENT", "UTF-8"),
    "negative shape": (_with(shape=[-1, -1]), "INVALID_ARGUMENT", r"shape: got \[-1, -1\]"),
    "huge shape": (_with(shape=[2**40, 2**40]), "INVALID_ARGUMENT", "1 to 64 user ids"),
    "too few raw": (message(raw_input_contents=[b""]), "INVALID_ARGUMENT", "raw_input_contents"),
    "raw and typed": (
        message(raw_input_contents=[b"", b""]),
        "INVALID_ARGUMENT",
        r"inputs\[user_id\]\.contents",
    ),
    "parameter without a value": (
        message(parameters={"x": pb.InferParameter()}),
        "INVALID_ARGUMENT",
        r"parameters\[x\]",
    ),
    "shared memory": (
        _with(parameters={"shared_memory_region": pb.InferParameter(string_param="x")}),
        "INVALID_ARGUMENT",
        "no shared memory",
    ),
    "output": (
        message(outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="scoers")]),
        "INVALID_ARGUMENT",
        "scores",
    ),
    "too long": (message(id="x" * MAX_BYTES), "RESOURCE_EXHAUSTED", "at most"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_requests_name_the_problem(name: str, door: Door):
    request, code, pattern = BAD[name]
    got, text = refused(door, request)
    assert got == code, text
    assert re.search(pattern, text), text
    assert door.client.is_server_live()


def test_a_small_message_that_unpacks_to_a_large_one_is_refused(door: Door):
    bomb = message(id="x" * (50 * MAX_BYTES))
    code, _ = refused(door, bomb, compression=grpc.Compression.Gzip)
    assert code == "RESOURCE_EXHAUSTED"


def test_calls_beyond_the_protocols_file_are_unimplemented(door: Door):
    with pytest.raises(InferenceServerException, match="UNIMPLEMENTED"):
        door.client.get_system_shared_memory_status()


def test_the_deadline_of_the_client_is_kept(door: Door):
    with pytest.raises(InferenceServerException, match=r"DEADLINE_EXCEEDED|Deadline Exceeded"):
        door.client.infer("toy", slate(), client_timeout=1e-6)
    assert door.client.infer("toy", slate(), client_timeout=60, timeout=60_000_000, priority=1)


def test_models_are_unloaded_and_loaded(door: Door):
    client = door.client
    client.unload_model("toy")
    _, entry = client.get_model_repository_index().models
    assert (entry.name, entry.state) == ("toy", "UNAVAILABLE")
    assert not client.is_model_ready("toy")
    with pytest.raises(InferenceServerException) as caught:
        client.infer("toy", slate())
    assert "UNAVAILABLE" in str(caught.value.status())
    with pytest.raises(InferenceServerException, match="artifact"):
        client.load_model("toy", config="{}")
    client.load_model("toy")
    _, entry = client.get_model_repository_index().models
    assert (entry.name, entry.version, entry.state) == ("toy", VERSION, "READY")
    assert client.is_model_ready("toy")
    with pytest.raises(InferenceServerException, match="nosuch"):
        client.load_model("nosuch")


def test_requests_are_counted_by_call(door: Door):
    before = door.client.get_inference_statistics("toy").model_stats[0]
    for _ in range(3):
        door.client.infer("toy", slate())
    with pytest.raises(InferenceServerException):
        door.client.infer("toy", slate()[:1])
    models = door.client.get_inference_statistics().model_stats
    (after,) = [one for one in models if one.name == "toy"]
    assert after.inference_stats.success.count == before.inference_stats.success.count + 3
    assert after.inference_stats.fail.count == before.inference_stats.fail.count + 1
    assert after.last_inference > 0
    counted = re.findall(rf'absorb_requests_total{{.*"({CALL}\w+)".*}} (\S+)', door.metrics())
    assert 'method="GRPC",model="toy"' in door.metrics()
    assert {"ModelInfer", "ServerLive"} <= {name.removeprefix(CALL) for name, _ in counted}


def test_a_call_has_its_ids_and_its_line_in_the_access_log(door: Door):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    asked = (("x-request-id", "over-grpc"), ("traceparent", f"00-{trace}-00f067aa0ba902b7-01"))
    ask: Any = door.channel.unary_unary(f"{CALL}ModelInfer")
    _, call = ask.with_call(message().SerializeToString(), metadata=asked)
    assert ("x-request-id", "over-grpc") in call.trailing_metadata()
    deadline = time.monotonic() + 10
    while '"request_id":"over-grpc"' not in door.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    lines = [json.loads(line) for line in door.log.read_text().splitlines()]
    (line,) = [one for one in lines if one.get("request_id") == "over-grpc"]
    assert (line["logger"], line["trace_id"], line["method"]) == (
        "service.access",
        trace,
        "GRPC",
    )
    assert (line["route"], line["status"], line["model"]) == (f"{CALL}ModelInfer", 200, "toy")
    assert set(line["stages_ms"]) == {"cache", "queue", "decode", "score"}
    staged = 'absorb_stage_duration_seconds_count{model="toy",stage="encode"}'
    assert staged in door.metrics()
