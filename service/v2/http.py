"""The protocol's door over HTTP: routes under /v2, and no decision."""

import gzip
import logging
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from models.contract.errors import AbsorbError, RequestError
from service.errors import NotReadyError
from service.status import retry_headers, status_of
from service.transport.auth import Access
from service.transport.body import BodyLimit, read_body
from service.transport.deadline import PRIORITY, TIMEOUT, whole_number
from service.transport.disconnect import while_present
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
    ModelAbout,
    ModelConfig,
    ModelReady,
    Server,
    Statistics,
)
from service.v2.wire import LENGTH_HEADER, parameters_of, read_infer, read_object, write_infer

MODEL = "/v2/models/{model}"
VERSION = f"{MODEL}/versions/{{version}}"
SMALL_BYTES = 1024
"""Below this a body is sent as it is: packing it would save no packet."""
FAST = 1
"""Level of compression: what a slate's scores save at higher ones is not worth their time."""
NEVER = re.compile(r"q=0(\.0*)?")
FIXED = "fixed while the service runs: environment variables set it (README, Settings)"
BYTES_TOO: dict[str, Any] = {"application/octet-stream": {}}
"""Tensors may follow the JSON as bytes: requests say it in a header, answers do it where a request asks."""
INFERRED: dict[int | str, dict[str, Any]] = {200: {"content": BYTES_TOO}}
REFUSED: dict[int | str, dict[str, Any]] = {405: {"model": ErrorBody}}


def described_infer(*path: str) -> dict[str, Any]:
    """What OpenAPI says of an infer route, which reads its request itself."""
    text = {"type": "string"}
    said = described_body(InferBody)
    said["requestBody"]["content"] |= BYTES_TOO
    header = {"name": LENGTH_HEADER, "in": "header", "schema": {"type": "integer", "minimum": 1}}
    places = [{"name": name, "in": "path", "required": True, "schema": text} for name in path]
    return {**said, "parameters": [*places, header]}


def v2_routes(data_plane: DataPlane, body: BodyLimit, access: Access) -> list[APIRouter]:
    """Every route under /v2."""
    return [
        infer_routes(data_plane, body),
        describing_routes(data_plane, body),
        health_routes(data_plane),
        admin_routes(data_plane, body, access),
        fixed_routes(access),
    ]


def infer_routes(data_plane: DataPlane, body: BodyLimit) -> APIRouter:
    """The route that scores."""
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
        """Score, as the Open Inference Protocol V2 says it."""
        path = request.path_params
        raw = await read_body(request, body)
        header_length = request.headers.get(LENGTH_HEADER)
        asked = read_infer(path["model"], path.get("version", ""), raw, header_length)
        with while_present(request.receive):
            answer = await data_plane.infer(_with_terms(asked, request.headers))
        content, header_size = write_infer(asked, answer)
        if header_size is None:
            return _packed(request, content, "application/json", {})
        headers = {LENGTH_HEADER: str(header_size)}
        return _packed(request, content, "application/octet-stream", headers)

    return router


def describing_routes(data_plane: DataPlane, body: BodyLimit) -> APIRouter:
    """What the server and its models are, and what they have done."""
    router = APIRouter(responses=ERRORS)

    @router.get("/v2", response_model=Server)
    async def server() -> Response:
        """Who answers, and which extensions of the protocol it speaks."""
        return JsonResponse(server_json(data_plane.server()))

    @router.get("/v2/models/stats", response_model=Statistics)
    async def all_statistics() -> Response:
        """What every model has served."""
        return JsonResponse(statistics_json(data_plane.statistics()))

    @router.get(MODEL, response_model=ModelAbout)
    @router.get(VERSION, response_model=ModelAbout)
    async def metadata(model: str, version: str = "") -> Response:
        """What a model takes and gives."""
        return JsonResponse(metadata_json(data_plane.metadata(model, version)))

    @router.get(f"{MODEL}/config", response_model=ModelConfig)
    @router.get(f"{VERSION}/config", response_model=ModelConfig)
    async def config(model: str, version: str = "") -> Response:
        """The same as Triton's model configuration."""
        return JsonResponse(data_plane.config(model, version))

    @router.get(f"{MODEL}/stats", response_model=Statistics)
    @router.get(f"{VERSION}/stats", response_model=Statistics)
    async def statistics(model: str, version: str = "") -> Response:
        """What a model has served."""
        return JsonResponse(statistics_json(data_plane.statistics(model, version)))

    @router.post(
        "/v2/repository/index",
        response_model=list[IndexEntry],
        openapi_extra=described_body(IndexBody, is_required=False),
    )
    async def index(request: Request) -> Response:
        """Every model that serves or should. The body may be empty."""
        ready = read_object(await read_body(request, body)).get("ready", False)
        if not isinstance(ready, bool):
            raise RequestError("ready", short(ready), "true or false")
        return JsonResponse(index_json(data_plane.index(ready)))

    return router


def health_routes(data_plane: DataPlane) -> APIRouter:
    """Probes; no limit holds for them. A body, since KServe's client reads it and others do not mind."""
    router = APIRouter()

    @router.get("/v2/health/live", response_model=Live)
    async def live() -> Response:
        """The process answers."""
        return JsonResponse({"live": True})

    @router.get("/v2/health/ready", response_model=Ready, responses={503: {"model": NotReady}})
    async def ready() -> Response:
        """A model is loaded, and a real score through it works."""
        try:
            await data_plane.check_ready()
        except AbsorbError as error:
            status = status_of(NotReadyError())
            said = {"ready": False, "error": str(error)}
            return JsonResponse(said, status, headers=retry_headers(status))
        return JsonResponse({"ready": True})

    @router.get(f"{MODEL}/ready", response_model=ModelReady, responses=ERRORS)
    @router.get(f"{VERSION}/ready", response_model=ModelReady, responses=ERRORS)
    async def model_ready(model: str, version: str = "") -> Response:
        """The model, and this version of it, serves."""
        data_plane.check_model_ready(model, version)
        return JsonResponse({"name": model, "ready": True})

    return router


def admin_routes(data_plane: DataPlane, body: BodyLimit, access: Access) -> APIRouter:
    """What changes the service: these need the administrator's key."""
    router = APIRouter(responses=ERRORS, dependencies=[Depends(access.admin)])

    @router.post("/v2/repository/models/{model}/load", response_class=Response)
    async def load(request: Request, model: str) -> Response:
        """Serve what is published under a name now. The body may be empty."""
        fields = read_object(await read_body(request, body))
        await data_plane.load(model, parameters_of(fields, "parameters"))
        return Response()

    @router.post("/v2/repository/models/{model}/unload", response_class=Response)
    async def unload(request: Request, model: str) -> Response:
        """Serve a model no longer. The body may be empty."""
        read_object(await read_body(request, body))
        await data_plane.unload(model)
        return Response()

    return router


def fixed_routes(access: Access) -> APIRouter:
    """Settings that Triton's clients may ask for: what they are here, and that they cannot be changed."""
    router = APIRouter()

    @router.get("/v2/trace/setting")
    @router.get(f"{MODEL}/trace/setting")
    async def trace() -> Response:
        """Requests are traced by OpenTelemetry, not by this extension."""
        return JsonResponse({"trace_level": ["OFF"]})

    @router.get("/v2/logging")
    async def log() -> Response:
        """What is logged."""
        root = logging.getLogger()
        levels = {
            "log_info": logging.INFO,
            "log_warning": logging.WARNING,
            "log_error": logging.ERROR,
        }
        said = {name: root.isEnabledFor(level) for name, level in levels.items()}
        return JsonResponse({**said, "log_verbose_level": 0, "log_format": "json"})

    admin = [Depends(access.admin)]

    @router.post("/v2/trace/setting", status_code=405, responses=REFUSED, dependencies=admin)
    @router.post(f"{MODEL}/trace/setting", status_code=405, responses=REFUSED, dependencies=admin)
    @router.post("/v2/logging", status_code=405, responses=REFUSED, dependencies=admin)
    async def change(request: Request) -> Response:
        """Refused."""
        return error_response(405, f"{request.url.path}: {FIXED}", {"Allow": "GET"})

    return router


def _with_terms(asked: InferRequest, headers: Mapping[str, str]) -> InferRequest:
    """The request, with what headers say of its time and its urgency where its parameters say nothing."""
    said: dict[str, Parameter] = {}
    if TIMEOUT in headers:
        said["timeout"] = 1000 * whole_number(TIMEOUT, headers[TIMEOUT], 1)
    if PRIORITY in headers:
        said["priority"] = whole_number(PRIORITY, headers[PRIORITY], 0)
    return replace(asked, parameters={**said, **asked.parameters}) if said else asked


def _packed(request: Request, content: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """An answer, compressed if the client takes that."""
    encoding = _encoding(request.headers.get("accept-encoding", ""))
    if encoding is None or len(content) < SMALL_BYTES:
        return Response(content, media_type=media_type, headers=headers)
    packed = gzip.compress(content, FAST) if encoding == "gzip" else zlib.compress(content, FAST)
    headers = {**headers, "Content-Encoding": encoding, "Vary": "Accept-Encoding"}
    return Response(packed, media_type=media_type, headers=headers)


def _encoding(accepted: str) -> str | None:
    """The first of ours that the client takes."""
    parts = [part.partition(";") for part in accepted.lower().replace(" ", "").split(",")]
    taken = {name for name, _, weight in parts if not NEVER.fullmatch(weight)}
    return next((name for name in ("gzip", "deflate") if name in taken), None)
