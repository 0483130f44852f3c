"""Candidate fields as tensors of the shape of the candidates. Over gRPC: test_grpc_server.py."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from models.contract.calibration import Temperature
from models.contract.errors import RequestError
from service.v2.messages import InferRequest, InferResponse, InferTensor
from tests.service.toy import Toy
from tests.service.v2.test_data_plane import texts
from tests.service.v2.test_http import INFER, LENGTH, packed
from tests.service.world import HISTORIES, RECENT, Running, World

pytestmark = pytest.mark.anyio
TOY = Toy(candidate_names=("display", "mailer"), calibration=Temperature(1.3, 0.4))
SLATE = ["i1", "i5", "i5"]
DISPLAY = ["front", "3", "ceiling"]
USER, CANDIDATES = texts("user_id", "ann"), texts("candidates", *SLATE)


def expected(user: str, slate: Sequence[str], **placed: Sequence[str]) -> list[float]:
    return TOY.scores(TOY.state(HISTORIES[user]), slate, RECENT[user], placed=placed)


def scores_of(answer: InferResponse) -> list[float]:
    return [float(score) for score in answer.outputs[0].data]


def close(expected: list[float]) -> Any:
    return pytest.approx(expected, abs=1e-6)


async def infer(running: Running, *inputs: InferTensor) -> InferResponse:
    return await running.dependencies.data_plane.infer(InferRequest("toy", inputs))


async def test_a_tensor_for_each_field_changes_the_scores(world: World) -> None:
    world.publish(TOY)
    async with world.service() as running:
        answer = await infer(running, USER, CANDIDATES, texts("display", *DISPLAY))
        plain = await infer(running, USER, CANDIDATES)
    scores = scores_of(answer)
    assert scores == close(expected("ann", SLATE, display=DISPLAY))
    assert scores_of(plain) == close(expected("ann", SLATE))
    assert abs(scores[1] - scores[2]) > 1e-3  # one item, two placements
    listed = answer.parameters["unknown_candidate_fields"]
    assert json.loads(str(listed)) == {"display": ["ceiling"], "mailer": [None]}


async def test_no_parameter_says_that_every_value_is_known(world: World) -> None:
    world.publish(TOY)
    mailer = texts("mailer", *["cover"] * 3)
    async with world.service() as running:
        known = (mailer, texts("hour", "day"), texts("device", "web"))
        answer = await infer(running, USER, CANDIDATES, texts("display", *["front"] * 3), *known)
    assert answer.parameters == {"degraded": False}


async def test_each_of_several_users_has_a_row_of_each_field(world: World) -> None:
    world.publish(TOY)
    slates, displays = ["i1", "i5", "i5", "i2"], ["front", "3", "aisle", "none"]
    async with world.service() as running:
        answer = await infer(
            running,
            texts("user_id", "ann", "bob"),
            texts("candidates", *slates, shape=(2, 2)),
            texts("display", *displays, shape=(2, 2)),
        )
    ann = expected("ann", slates[:2], display=displays[:2])
    bob = expected("bob", slates[2:], display=displays[2:])
    assert scores_of(answer) == close([*ann, *bob])
    listed = answer.parameters["unknown_candidate_fields"]
    assert json.loads(str(listed)) == {"display": ["none"], "mailer": [None]}


async def test_values_may_be_integers(world: World) -> None:
    world.publish(TOY)
    numbers = InferTensor("display", "INT64", (3,), np.array([3, 3, 4], np.int64))
    async with world.service() as running:
        answer = await infer(running, USER, CANDIDATES, numbers)
    assert scores_of(answer) == close(expected("ann", SLATE, display=["3", "3", "4"]))


BAD = {
    "too few values": (texts("display", "front"), r"inputs\[display\].shape: got \[1\], expected"),
    "a matrix": (texts("display", *DISPLAY, shape=(1, 3)), r"\[3\], the shape of inputs\[candid"),
    "a name": (texts("dispaly", *DISPLAY), "did you mean 'display'"),
    "no text": (
        InferTensor("display", "FP32", (3,), np.zeros(3, np.float32)),
        r"inputs\[display\].datatype: got 'FP32', expected BYTES or INT64",
    ),
}


@pytest.mark.parametrize(("tensor", "text"), BAD.values(), ids=BAD)
async def test_wrong_tensors_are_named(world: World, tensor: InferTensor, text: str) -> None:
    world.publish(TOY)
    async with world.service() as running:
        with pytest.raises(RequestError, match=text):
            await infer(running, USER, CANDIDATES, tensor)


async def test_a_model_without_candidate_fields_has_no_such_input(world: World) -> None:
    world.publish(Toy())
    async with world.service() as running:
        with pytest.raises(RequestError, match="inputs: got 'display', expected one of user_id"):
            await infer(running, USER, CANDIDATES, texts("display", *DISPLAY))


async def test_metadata_lists_an_optional_input_for_each_field(world: World) -> None:
    world.publish(TOY)
    async with world.service() as running:
        about = running.dependencies.data_plane.metadata("toy")
    inputs = {one.name: (one.datatype, one.shape, one.is_optional) for one in about.inputs}
    assert list(inputs) == [
        "user_id", "candidates", "recent", "hour", "device", "display", "mailer",
    ]  # fmt: skip
    assert inputs["display"] == ("BYTES", (-1,), True)


async def test_over_http_in_json_and_in_bytes(world: World) -> None:
    world.publish(TOY)
    columns = {"user_id": ["ann"], "candidates": SLATE, "display": DISPLAY}
    described = [
        {"name": name, "shape": [len(values)], "datatype": "BYTES"}
        for name, values in columns.items()
    ]
    tails = [packed(values) for values in columns.values()]
    in_json = [{**one, "data": columns[str(one["name"])]} for one in described]
    sizes = [{"binary_data_size": len(tail)} for tail in tails]
    in_bytes = [{**one, "parameters": size} for one, size in zip(described, sizes, strict=True)]
    header = orjson.dumps({"inputs": in_bytes})
    async with world.service() as running:
        post = running.client.post
        answers = [
            await post(INFER, json={"inputs": in_json}),
            await post(INFER, content=header + b"".join(tails), headers={LENGTH: str(len(header))}),
        ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        scores = answer.json()["outputs"][0]["data"]
        assert scores == close(expected("ann", SLATE, display=DISPLAY))
        listed = answer.json()["parameters"]["unknown_candidate_fields"]
        assert json.loads(listed) == {"display": ["ceiling"], "mailer": [None]}
