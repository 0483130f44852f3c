"""The protocols of the service: the same query through /v1 and through the Open Inference Protocol, the same answer."""

from typing import Any

import orjson

from loadtest.chaos.http_client import post

V1 = "/v1/score"
V2 = "/v2/models/{model}/infer"
Json = dict[str, Any]


def v1_request(body: Json) -> bytes:
    """As /v1/score takes it."""
    return post(V1, orjson.dumps(body))


def v2_request(body: Json, model: str) -> bytes:
    """As tensors."""
    columns = {
        "user_id": [body["user_id"]],
        "candidates": body["candidates"],
        **({"recent": body["recent"]} if "recent" in body else {}),
        **{name: [value] for name, value in body["context"].items()},
    }
    inputs = [
        {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": values}
        for name, values in columns.items()
    ]
    return post(V2.format(model=model), orjson.dumps({"inputs": inputs}))


def as_v1(body: Json) -> Json:
    """An answer of either door in the form of /v1. V2 names no artifact: it is the generation's.

    Raises:
        KeyError: it is neither's.
    """
    if "outputs" not in body:
        return body
    outputs = {one["name"]: one["data"] for one in body["outputs"]}
    said = body["parameters"]
    return {
        "state": {"source": outputs["state_source"][0]},
        "generation": outputs["generation"][0],
        "artifact_id": None,
        "scores": outputs["scores"],
        "degraded": said["degraded"],
        "degraded_reason": said.get("degraded_reason"),
    }
