"""The Open Inference Protocol V2 over HTTP: the routes under /v2. They translate, and decide nothing."""

import gzip
import logging
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from models.contract.errors import AbsorbError, RequestError
from service.errors import NotReadyError
from service.status import retry_headers, status_of
from service.transport.auth import Access
from service.transport.body import BodyLimit, read_body
from service.transport.deadline import PRIORITY, TIMEOUT, whole_number
from service.transport.disconnect import CancelledOnDisconnect
from service.transport.parser_thread import ParserThread
from service.transport.responses import (
    ERRORS,
    BareRoute,
    JsonResponse,
    described_body,
    error_response,
)
from service.transport.schemas import ErrorBody, Live, NotReady, Ready
from service.v2.answers import index_json, metadata_json, server_json, statistics_json
from service.v2.codec import short
from service.v2.data_plane import DataPlane
from service.v2.messages import InferRequest, Parameter
from service.v2.schemas import (
    IndexBody,
    IndexEntry,
    InferAnswer,
    InferBody,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    Server,
    Statistics,
)
from service.v2.wire import LENGTH_HEADER, parameters_of, read_infer, read_object, write_infer

MODEL = "/v2/models/{model}"
VERSION = f"{MODEL}/versions/{{version}}"
SMALL_BYTES = 1024
"""Shorter bodies are not compressed: that would save no network packet."""
FAST = 1
"""Compression level: for scores, higher levels save little and take longer."""
NEVER = re.compile(r"q=0(\.0*)?")
FIXED = "fixed while the service runs: environment variables set it"
OCTET_STREAM: dict[str, Any] = {"application/octet-stream": {}}
"""Tensors may follow the JSON as bytes: a request says so in a header, and asks for it in its response."""
INFERRED: dict[int | str, dict[str, Any]] = {200: {"content": OCTET_STREAM}}
REFUSED: dict[int | str, dict[str, Any]] = {405: {"model": ErrorBody}}


def described_infer(*path: str) -> dict[str, Any]:
    """Describe an infer route for OpenAPI: it reads its own body.

    Args:
        path: names of the path parameters.
    """
    text = {"type": "string"}
    described = described_body(InferBody)
    described["requestBody"]["content"] |= OCTET_STREAM
    header = {"name": LENGTH_HEADER, "in": "header", "schema": {"type": "integer", "minimum": 1}}
    path_parameters = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in path
    ]
    return {**described, "parameters": [*path_parameters, header]}


def v2_routes(
    data_plane: DataPlane, body: BodyLimit, access: Access, parsers: ParserThread
) -> list[APIRouter]:
    """Every route under /v2."""
    return [
        infer_routes(data_plane, body, parsers),
        describing_routes(data_plane, body),
        health_routes(data_plane),
        admin_routes(data_plane, body, access),
        fixed_routes(access),
    ]


def infer_routes(data_plane: DataPlane, body: BodyLimit, parsers: ParserThread) -> APIRouter:
    """Routes that score."""
    router = APIRouter(responses=ERRORS, route_class=BareRoute)

    @router.post(
        f"{MODEL}/infer",
        response_model=InferAnswer,
        responses=INFERRED,
        openapi_extra=described_infer("model"),
    )
    @router.post(
        f"{VERSION}/infer",
        response_model=InferAnswer,
        responses=INFERRED,
        openapi_extra=described_infer("model", "version"),
    )
    async def infer(request: Request) -> Response:
        """Score, in the form of the Open Inference Protocol V2."""
        path = request.path_params
        raw = await read_body(request, body)
        header_length = request.headers.get(LENGTH_HEADER)
        read = partial(read_infer, path["model"], path.get("version", ""))
        infer_request = await parsers.parse(read, raw, header_length, data_plane.limits)
        with CancelledOnDisconnect(request.receive):
            response = await data_plane.infer(_with_headers(infer_request, request.headers))
        content, header_size = write_infer(infer_request, response)
        if header_size is None:
            return _compressed(request, content, "application/json", {})
        headers = {LENGTH_HEADER: str(header_size)}
        return _compressed(request, content, "application/octet-stream", headers)

    return router


def describing_routes(data_plane: DataPlane, body: BodyLimit) -> APIRouter:
    """Routes that describe the server and its models."""
    router = APIRouter(responses=ERRORS)

    @router.get("/v2", response_model=Server)
    async def server() -> Response:
        """Name, version and protocol extensions of the server."""
        return JsonResponse(server_json(data_plane.server()))

    @router.get("/v2/models/stats", response_model=Statistics)
    async def all_statistics() -> Response:
        """Statistics of every model."""
        return JsonResponse(statistics_json(data_plane.statistics()))

    @router.get(MODEL, response_model=ModelMetadata)
    @router.get(VERSION, response_model=ModelMetadata)
    async def metadata(model: str, version: str = "") -> Response:
        """Inputs and outputs of a model."""
        return JsonResponse(metadata_json(data_plane.metadata(model, version)))

    @router.get(f"{MODEL}/config", response_model=ModelConfig)
    @router.get(f"{VERSION}/config", response_model=ModelConfig)
    async def config(model: str, version: str = "") -> Response:
        """Inputs and outputs of a model as Triton's model configuration."""
        return JsonResponse(data_plane.config(model, version))

    @router.get(f"{MODEL}/stats", response_model=Statistics)
    @router.get(f"{VERSION}/stats", response_model=Statistics)
    async def statistics(model: str, version: str = "") -> Response:
        """Statistics of a model."""
        return JsonResponse(statistics_json(data_plane.statistics(model, version)))

    @router.post(
        "/v2/repository/index",
        response_model=list[IndexEntry],
        openapi_extra=described_body(IndexBody, is_required=False),
    )
    async def index(request: Request) -> Response:
        """Every model that serves or should serve. The body may be empty."""
        ready = read_object(await read_body(request, body)).get("ready", False)
        if not isinstance(ready, bool):
            raise RequestError("ready", short(ready), "true or false")
        return JsonResponse(index_json(data_plane.index(ready)))

    return router


def health_routes(data_plane: DataPlane) -> APIRouter:
    """Routes for probes; admission limits do not apply. Responses have a body, because KServe's client reads it."""
    router = APIRouter()

    @router.get("/v2/health/live", response_model=Live)
    async def live() -> Response:
        """The process answers."""
        return JsonResponse({"live": True})

    @router.get("/v2/health/ready", response_model=Ready, responses={503: {"model": NotReady}})
    async def ready() -> Response:
        """A model is loaded, and scoring with it works."""
        try:
            await data_plane.check_ready()
        except AbsorbError as error:
            status = status_of(NotReadyError())
            body = {"ready": False, "error": str(error)}
            return JsonResponse(body, status, headers=retry_headers(status))
        return JsonResponse({"ready": True})

    @router.get(f"{MODEL}/ready", response_model=ModelReady, responses=ERRORS)
    @router.get(f"{VERSION}/ready", response_model=ModelReady, responses=ERRORS)
    async def model_ready(model: str, version: str = "") -> Response:
        """The model serves, in this version if one is given."""
        data_plane.check_model_ready(model, version)
        return JsonResponse({"name": model, "ready": True})

    return router


def admin_routes(data_plane: DataPlane, body: BodyLimit, access: Access) -> APIRouter:
    """Routes that change what serves: they need an administrator's key."""
    router = APIRouter(responses=ERRORS, dependencies=[Depends(access.admin)])

    @router.post("/v2/repository/models/{model}/load", response_class=Response)
    async def load(request: Request, model: str) -> Response:
        """Load the published generation of a model now. The body may be empty."""
        fields = read_object(await read_body(request, body))
        await data_plane.load(model, parameters_of(fields, "parameters"))
        return Response()

    @router.post("/v2/repository/models/{model}/unload", response_class=Response)
    async def unload(request: Request, model: str) -> Response:
        """Stop serving a model. The body may be empty."""
        read_object(await read_body(request, body))
        await data_plane.unload(model)
        return Response()

    return router


def fixed_routes(access: Access) -> APIRouter:
    """Trace and log settings, for Triton's clients: they can be read, and not changed."""
    router = APIRouter()

    @router.get("/v2/trace/setting")
    @router.get(f"{MODEL}/trace/setting")
    async def trace() -> Response:
        """Requests are traced by OpenTelemetry, not by this extension."""
        return JsonResponse({"trace_level": ["OFF"]})

    @router.get("/v2/logging")
    async def log() -> Response:
        """Which levels are logged."""
        root = logging.getLogger()
        levels = {
            "log_info": logging.INFO,
            "log_warning": logging.WARNING,
            "log_error": logging.ERROR,
        }
        enabled = {name: root.isEnabledFor(level) for name, level in levels.items()}
        return JsonResponse({**enabled, "log_verbose_level": 0, "log_format": "json"})

    admin = [Depends(access.admin)]

    @router.post("/v2/trace/setting", status_code=405, responses=REFUSED, dependencies=admin)
    @router.post(f"{MODEL}/trace/setting", status_code=405, responses=REFUSED, dependencies=admin)
    @router.post("/v2/logging", status_code=405, responses=REFUSED, dependencies=admin)
    async def change(request: Request) -> Response:
        """Rejected: these settings are fixed while the service runs."""
        return error_response(405, f"{request.url.path}: {FIXED}", {"Allow": "GET"})

    return router


def _with_headers(request: InferRequest, headers: Mapping[str, str]) -> InferRequest:
    """Take timeout and priority from the headers if the request's parameters do not have them."""
    defaults: dict[str, Parameter] = {}
    if TIMEOUT in headers:
        defaults["timeout"] = 1000 * whole_number(TIMEOUT, headers[TIMEOUT], 1)
    if PRIORITY in headers:
        defaults["priority"] = whole_number(PRIORITY, headers[PRIORITY], 0)
    if not defaults:
        return request
    return replace(request, parameters={**defaults, **request.parameters})


def _compressed(
    request: Request, content: bytes, media_type: str, headers: dict[str, str]
) -> Response:
    """Make a response, compressed if the client accepts that."""
    encoding = _encoding(request.headers.get("accept-encoding", ""))
    if encoding is None or len(content) < SMALL_BYTES:
        return Response(content, media_type=media_type, headers=headers)
    compressed = (
        gzip.compress(content, FAST) if encoding == "gzip" else zlib.compress(content, FAST)
    )
    headers = {**headers, "Content-Encoding": encoding, "Vary": "Accept-Encoding"}
    return Response(compressed, media_type=media_type, headers=headers)


def _encoding(accepted: str) -> str | None:
    """First supported encoding that the client accepts; None if there is none."""
    parts = [part.partition(";") for part in accepted.lower().replace(" ", "").split(",")]
    accepted_names = {name for name, _, weight in parts if not NEVER.fullmatch(weight)}
    return next((name for name in ("gzip", "deflate") if name in accepted_names), None)
