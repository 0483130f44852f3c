"""Reference of the HTTP routes, from the OpenAPI document of a service that was put together and not started."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from docs.generate.markdown import code, table
from service.app import create_app
from service.settings import Settings
from service.wiring import build_dependencies

V1_INTRODUCTION = """# HTTP routes

Generated from the service's OpenAPI document ([openapi.json](openapi.json)); a running service shows it at
`/docs` and serves it at `/openapi.json`. The Open Inference Protocol has [a page of its own](v2.md).

Errors are `{"error": "field: what came, what was expected"}`;
[Operations](../operations.md#overload-and-deadlines) lists the statuses. Headers that every scoring route
reads: `X-API-Key` or `Authorization: Bearer`, `X-Request-Timeout-Ms`, `X-Request-Priority` (1 first, 5 last),
`X-Request-Id`, `traceparent`.

"""
V2_INTRODUCTION = """# Open Inference Protocol V2 over HTTP

JSON and binary tensors, gzip and deflate. Works with `tritonclient[http]`, KServe's REST client and `mlserver
infer` as they are. [gRPC](grpc.md) answers the same from the same code.

| tensor | direction | datatype | shape | meaning |
| --- | --- | --- | --- | --- |
| `user_id` | input | BYTES or an integer type | [1], [B] or [B, 1] | the user; up to 64 in one request |
| `candidates` | input | BYTES or an integer type | [C] or [B, C] | item ids to score |
| `recent` | input, optional | BYTES or an integer type | [N] or [B, N] | the user's latest items, newest last |
| each context field | input, optional | BYTES or an integer type | [1], [B] or [B, 1] | a context field's value |
| each candidate field | input, optional | BYTES or an integer type | as `candidates` | a value for each candidate |
| `scores` | output | FP32 | as `candidates` | in the order of the candidates |
| `state_source` | output | BYTES | [1] or [B] | `hit`, `miss`, `stale`, `corrupt` or `unavailable` |
| `unknown` | output | BOOL | as `candidates` | true where the catalogue does not hold the candidate |
| `generation` | output | BYTES | [1] or [B] | generation that answered |

A model's version is the epoch second of its publish. Only the version that serves can be requested; another one
is a 404. Shared memory, classification and raw binary mode are rejected with 400.

"""
METHODS = ("get", "post", "put", "delete")


@dataclass(frozen=True)
class Route:
    """One operation of the OpenAPI document.

    Attributes:
        method: in capitals.
        path: with its parameters in braces.
        operation: its part of the document.
    """

    method: str
    path: str
    operation: dict[str, Any]


def openapi_document() -> dict[str, Any]:
    """OpenAPI document of a service with its defaults. Needs no cache: nothing connects before the start."""
    registry = CollectorRegistry()
    dependencies = build_dependencies(Settings(), "redis://127.0.0.1:1", registry, time.time)
    document: dict[str, Any] = create_app(dependencies).openapi()
    return document


def routes(document: dict[str, Any]) -> Iterator[Route]:
    """Every operation, in the document's order."""
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                yield Route(method.upper(), path, operations[method])


def is_v2(route: Route) -> bool:
    """Whether a route is one of the Open Inference Protocol."""
    return route.path.split("/")[1] == "v2"


def document_text() -> str:
    """The document as JSON."""
    return json.dumps(openapi_document(), indent=1)


def page() -> str:
    """The page of all routes but V2's, as Markdown."""
    return V1_INTRODUCTION + _sections(openapi_document(), v2=False)


def v2_page() -> str:
    """The page of V2's routes, as Markdown."""
    return V2_INTRODUCTION + _sections(openapi_document(), v2=True)


def _sections(document: dict[str, Any], *, v2: bool) -> str:
    chosen = [route for route in routes(document) if is_v2(route) == v2]
    named = _schemas_of(chosen, document)
    parts = [_section(route) for route in chosen]
    parts.append("## Bodies\n\n")
    parts += [_schema_section(name, document["components"]["schemas"][name]) for name in named]
    return "".join(parts)


def _section(route: Route) -> str:
    text = [f"## `{route.method} {route.path}`\n\n", route.operation.get("description", ""), "\n\n"]
    given = route.operation.get("parameters", [])
    if given:
        rows = [
            (
                code(one["name"]),
                one["in"],
                type_of(one.get("schema", {})),
                one.get("description", ""),
            )
            for one in given
        ]
        text += [table(["parameter", "in", "type", "meaning"], rows), "\n"]
    body = _schema_in(route.operation.get("requestBody", {}))
    if body:
        text += [f"Body: {type_of(body)}\n\n", _keys(body), "\n"]
    answers = [
        (status, type_of(_schema_in(answer)), answer.get("description", ""))
        for status, answer in route.operation["responses"].items()
    ]
    return "".join([*text, table(["status", "body", "meaning"], answers), "\n"])


def _schema_in(part: dict[str, Any]) -> dict[str, Any]:
    """Schema of a request's or an answer's JSON body; empty if it has none."""
    for kind, content in part.get("content", {}).items():
        if "json" in kind:
            schema: dict[str, Any] = content.get("schema", {})
            return schema
    return {}


def type_of(schema: dict[str, Any]) -> str:
    """A schema in a few words, with links to named ones."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(type_of(part) for part in schema[union]))
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(json.dumps(value)) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    return str(schema.get("type", "any" if schema else ""))


def _schemas_of(chosen: list[Route], document: dict[str, Any]) -> list[str]:
    """Names of the schemas that routes use, those that schemas use included; in order of first use."""
    found: dict[str, None] = {}
    waiting: list[Any] = [route.operation for route in chosen]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found[name] = None
                waiting.append(document["components"]["schemas"][name])
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return list(found)


def _schema_section(name: str, schema: dict[str, Any]) -> str:
    return f"### {name}\n\n{schema.get('description', '')}\n\n{_keys(schema)}\n"


def _keys(schema: dict[str, Any]) -> str:
    """Table of an object's keys; empty for any other schema."""
    required = schema.get("required", [])
    rows = [
        (code(key), type_of(one), "yes" if key in required else "", one.get("description", ""))
        for key, one in schema.get("properties", {}).items()
    ]
    return table(["key", "type", "required", "meaning"], rows) if rows else ""
