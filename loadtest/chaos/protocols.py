"""Requests and answers of both protocols: /v1 and the Open Inference Protocol V2."""

from collections.abc import Sequence
from typing import Any

import orjson

from loadtest.chaos.http_client import post

V1 = "/v1/score"
V2 = "/v2/models/{model}/infer"
Json = dict[str, Any]


def columns_of(candidates: Sequence[Any]) -> dict[str, list[str]]:
    """Column -> value of each candidate, all of which are ids, or objects with the same fields."""
    if isinstance(candidates[0], str):
        return {"candidates": list(candidates)}
    fields = {name: [one["fields"][name] for one in candidates] for name in candidates[0]["fields"]}
    return {"candidates": [one["id"] for one in candidates], **fields}


def v1_request(body: Json) -> bytes:
    """A request to /v1/score."""
    return post(V1, orjson.dumps(body))


def v2_request(body: Json, model: str) -> bytes:
    """The same request to V2, as tensors."""
    columns = {
        "user_id": [body["user_id"]],
        **columns_of(body["candidates"]),
        **({"recent": body["recent"]} if "recent" in body else {}),
        **{name: [value] for name, value in body["context"].items()},
    }
    inputs = [
        {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": values}
        for name, values in columns.items()
    ]
    return post(V2.format(model=model), orjson.dumps({"inputs": inputs}))


def as_v1(body: Json) -> Json:
    """An answer of either protocol in the form of /v1. V2 names no artifact, so `artifact_id` is None.

    Raises:
        KeyError: the body is an answer of neither protocol.
    """
    if "outputs" not in body:
        return body
    outputs = {output["name"]: output["data"] for output in body["outputs"]}
    parameters = body["parameters"]
    return {
        "state": {"source": outputs["state_source"][0]},
        "generation": outputs["generation"][0],
        "artifact_id": None,
        "scores": outputs["scores"],
        "degraded": parameters["degraded"],
        "degraded_reason": parameters.get("degraded_reason"),
    }
