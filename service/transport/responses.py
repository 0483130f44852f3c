"""JSON responses, error responses, and routes that read their own body."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from service.status import retry_headers
from service.transport.schemas import ErrorBody

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}
"""Error responses of a route, for OpenAPI."""


CONTENT_TYPE = (b"content-type", b"application/json")


class JsonResponse(Response):
    """A body encoded by orjson; numpy arrays become JSON lists of numbers."""

    media_type = "application/json"

    def __init__(
        self, content: object, status_code: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Encode the body; not by Starlette, which takes .02 ms for the headers.

        Args:
            content: the body.
            status_code: HTTP status.
            headers: headers beside length and type of the body.
        """
        self.status_code = status_code
        self.background = None
        self.body = self.render(content)
        self.raw_headers = [CONTENT_TYPE, (b"content-length", b"%d" % len(self.body))]
        for name, value in (headers or {}).items():
            self.raw_headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))

    def render(self, content: object) -> bytes:
        """Encode the body."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


class BareRoute(APIRoute):
    """A route whose function takes the request itself. FastAPI documents it and skips its own parsing.

    FastAPI's search for dependencies, parameters and a body takes 0.1 ms for each request, also where there are none.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's function unchanged."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def error_response(status: int, text: str, headers: dict[str, str] | None = None) -> JsonResponse:
    """Make an error response. Every error of the service has this form.

    Args:
        status: HTTP status, 400 or higher.
        text: which field was wrong, what came and what was expected.
        headers: extra headers, beside `Retry-After` where the status has it.
    """
    return JsonResponse({"error": text}, status, {**retry_headers(status), **(headers or {})})


def described_body(kind: type[BaseModel], is_required: bool = True) -> dict[str, Any]:
    """Describe a request body for OpenAPI: FastAPI does not see the body of a `BareRoute`."""
    content = {"application/json": {"schema": _inlined(kind.model_json_schema())}}
    return {"requestBody": {"required": is_required, "content": content}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Replace references by what they name: `$defs` of a body are not where OpenAPI resolves references."""
    definitions = schema.pop("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, list):
            return [resolve(element) for element in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return resolve(definitions[part["$ref"].rpartition("/")[2]])
        return {name: resolve(value) for name, value in part.items()}

    resolved: dict[str, Any] = resolve(schema)
    return resolved
