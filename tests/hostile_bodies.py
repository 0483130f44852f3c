"""Request bodies near the default limit of 1 MiB that are made to cost a service as much time as they can."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

MANY_BYTES = (1 << 20) - 2048
LENGTH = "Inference-Header-Content-Length"
SCORE, COMPARE, PREFETCH = "/v1/score", "/v1/compare", "/v1/prefetch"
INFER = "/v2/models/toy/infer"
GOOD: dict[str, Any] = {"user_id": "ann", "candidates": ["i1"]}
HERE = "HERE"
"""Stands in a document for what is repeated."""
UNITS = ["1", '"a"', '""', "[]", "{}", "null", "1.5", '{"id":1}', '{"id":"i","fields":{}}', "[[1]]"]
"""Elements, as JSON, that a list is filled with."""


@dataclass(frozen=True)
class Hostile:
    """One request."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def filled(document: object, unit: str, num_bytes: int = MANY_BYTES) -> bytes:
    """The document with a list of as many units as fit in the place of `HERE`."""
    raw = json.dumps(document, separators=(",", ":")).encode()
    count = (num_bytes - len(raw)) // (len(unit) + 1)
    return raw.replace(b'"HERE"', b"[" + b",".join([unit.encode()] * count) + b"]")


def names(num_bytes: int = MANY_BYTES) -> dict[str, int]:
    """An object of many different names."""
    return {f"a{at}": 1 for at in range(num_bytes // 13)}


def tensor(name: str, data: object, shape: list[int], datatype: str = "BYTES") -> dict[str, Any]:
    """An input of V2."""
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


USER = tensor("user_id", ["ann"], [1])
ONE = tensor("candidates", ["i1"], [1])


def inputs(*tensors: dict[str, Any], **more: object) -> dict[str, Any]:
    """A V2 document."""
    return {"inputs": [USER, *tensors], **more}


def whole(name: str, unit: str, datatype: str, *inner: int) -> bytes:
    """A V2 document whose input is filled with units, with the shape that fits."""
    document = inputs(tensor(name, HERE, [-1, *inner], datatype), *([ONE] * (name != "candidates")))
    raw = filled(document, unit)
    start = raw.index(b'"data":[', raw.index(b"-1")) + len(b'"data":[')
    count = (raw.index(b"]}", start) - start + 1) // (len(unit) + 1)
    return raw.replace(b"-1", str(count).encode(), 1)


def in_bytes(raw: bytes, count: int, datatype: str = "BYTES") -> Hostile:
    """A V2 request whose candidates come as bytes after the JSON."""
    sent = {"name": "candidates", "shape": [count], "datatype": datatype}
    header = json.dumps(inputs({**sent, "parameters": {"binary_data_size": len(raw)}})).encode()
    return Hostile(INFER, header + raw, {LENGTH: str(len(header))})


def refused() -> dict[str, Hostile]:
    """What -> a request that must be refused."""
    ones = [Struct("<I").pack(1) + b"a"] * (MANY_BYTES // 5)
    deep = b"[" * 190
    v1 = {
        **{f"candidates {unit}": filled({**GOOD, "candidates": HERE}, unit) for unit in UNITS},
        "recent 1": filled({**GOOD, "recent": HERE}, "1"),
        "recent lists": filled({**GOOD, "recent": HERE}, "[]"),
        "user": filled({**GOOD, "user_id": HERE}, "1"),
        "model": filled({**GOOD, "model": HERE}, "[]"),
        "context": json.dumps({**GOOD, "context": names()}).encode(),
        "names": json.dumps({**GOOD, **names()}).encode(),
        "fields": json.dumps({**GOOD, "candidates": [{"id": 1, "fields": names()}]}).encode(),
        "keys": json.dumps({**GOOD, "candidates": [{"id": 1, **names()}]}).encode(),
        "deep": filled({**GOOD, "candidates": HERE}, (deep + b"]" * 190).decode()),
        "lists after brackets in strings": filled(
            {**GOOD, "model": "[" * 300_000, "recent": HERE}, "[]", MANY_BYTES - 300_000
        ),
    }
    v2 = {
        "v2 numbers": whole("candidates", "1", "INT64"),
        "v2 texts": whole("candidates", '"a"', "BYTES"),
        "v2 recent": whole("recent", "1", "INT64"),
        "v2 lists": whole("candidates", "[]", "INT64", 0),
        "v2 deep": whole("candidates", "[[[[[[[1]]]]]]]", "INT64", *[1] * 7),
        "v2 deeper": filled(
            inputs(tensor("candidates", HERE, [9] * 8)), (deep + b"]" * 190).decode()
        ),
        "v2 inputs": filled({"inputs": HERE}, json.dumps(ONE)),
        "v2 named inputs": json.dumps(
            inputs(*[tensor(f"n{at}", ["x"], [1]) for at in range(14_000)])
        ).encode(),
        "v2 outputs": filled(inputs(ONE, outputs=HERE), '{"name":"scores"}'),
        "v2 parameters": json.dumps(inputs(ONE, parameters=names())).encode(),
        "v2 tensor parameters": json.dumps(inputs({**ONE, "parameters": names()})).encode(),
    }
    binary = {
        "bytes of empty texts": in_bytes(bytes(MANY_BYTES), MANY_BYTES // 4),
        "bytes of more empty texts": in_bytes(bytes(MANY_BYTES), 4),
        "bytes of texts": in_bytes(b"".join(ones), len(ones)),
        "bytes of more texts": in_bytes(b"".join(ones), 3),
        "bytes of numbers": in_bytes(bytes(MANY_BYTES), MANY_BYTES, "UINT8"),
    }
    return {
        **{what: Hostile(SCORE, body) for what, body in v1.items()},
        "models": Hostile(COMPARE, filled({**GOOD, "models": HERE}, '"toy"')),
        "prefetch": Hostile(PREFETCH, filled({"user_ids": HERE}, "1")),
        "prefetch lists": Hostile(PREFETCH, filled({"user_ids": HERE}, "[]")),
        **{what: Hostile(INFER, body) for what, body in v2.items()},
        **binary,
    }
