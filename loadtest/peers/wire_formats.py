"""Requests as bytes and answers as scores, in each wire format of the servers."""

import json
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from loadtest.peers.queries import Query
from loadtest.peers.servers import Route

HEADER_LENGTH = "Inference-Header-Content-Length"


def http_request(route: Route, host: str, query: Query) -> bytes:
    """A complete HTTP/1.1 request, which can be sent repeatedly on one connection."""
    headers = {"Host": host, "Content-Type": "application/json"}
    if route.wire == "json":
        body = _dumps({"user_id": query.user_id, "candidates": _objects(query)})
    elif route.wire == "v2":
        inputs = [_text(name, values) for name, values in _columns(query).items()]
        body = _dumps({"inputs": inputs, "outputs": [{"name": "scores"}]})
    else:
        body, json_length = _binary(_columns(query))
        headers |= {HEADER_LENGTH: str(json_length), "Content-Type": "application/octet-stream"}
    headers["Content-Length"] = str(len(body))
    lines = [f"POST {route.path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def scores_of(route: Route, headers: Mapping[str, str], body: bytes) -> NDArray[np.float64]:
    """Scores of an answer.

    Args:
        route: route of the request.
        headers: headers of the answer, names in lower case.
        body: body of the answer.

    Raises:
        ValueError: the body has no scores.
    """
    try:
        if route.wire == "v2-binary":
            return _from_binary(body, int(headers[HEADER_LENGTH.lower()]))
        answer = json.loads(body)
        if route.wire == "v2":
            answer = answer["outputs"][0]["data"]
        return np.asarray(answer if isinstance(answer, list) else answer["scores"], np.float64)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"answer: got {body[:200]!r}, expected scores") from error


def _objects(query: Query) -> list[object]:
    """Candidates of a JSON request: objects with fields, or ids where the model has no candidate fields."""
    if not query.fields:
        return list(query.candidates)
    rows = zip(*query.fields.values(), strict=True)
    given = [dict(zip(query.fields, values, strict=True)) for values in rows]
    pairs = zip(query.candidates, given, strict=True)
    return [{"id": item, "fields": fields} for item, fields in pairs]


def _columns(query: Query) -> dict[str, Sequence[str]]:
    """Tensors of a V2 request: a candidate field has the shape of the candidates."""
    return {"user_id": [query.user_id], "candidates": query.candidates, **query.fields}


def _text(name: str, values: Sequence[str]) -> dict[str, object]:
    return {"name": name, "datatype": "BYTES", "shape": [len(values)], "data": list(values)}


def _binary(tensors: Mapping[str, Sequence[str]]) -> tuple[bytes, int]:
    packed = {name: b"".join(map(_packed, values)) for name, values in tensors.items()}
    inputs = [
        {
            "name": name,
            "datatype": "BYTES",
            "shape": [len(values)],
            "parameters": {"binary_data_size": len(packed[name])},
        }
        for name, values in tensors.items()
    ]
    outputs = [{"name": "scores", "parameters": {"binary_data": True}}]
    header = _dumps({"inputs": inputs, "outputs": outputs})
    return header + b"".join(packed.values()), len(header)


def _from_binary(body: bytes, json_length: int) -> NDArray[np.float64]:
    (output,) = json.loads(body[:json_length])["outputs"]
    kind = {"FP32": "<f4", "FP64": "<f8"}[output["datatype"]]
    return np.frombuffer(body, kind, offset=json_length).astype(np.float64)


def _packed(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<I", len(raw)) + raw


def _dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
