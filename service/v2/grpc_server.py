"""The Open Inference Protocol V2 over gRPC: a second transport of the data plane, on the same event loop as HTTP.

A client's gRPC deadline is the request's timeout if it is the shorter one. Errors have the gRPC code that belongs to
their HTTP status, and the same text. Calls that the .proto file does not have (shared memory, tracing, streams) are
UNIMPLEMENTED.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from models.contract.errors import AbsorbError, RequestError
from service.observability.request_log import RequestLog
from service.settings import Settings
from service.transport.auth import Access, Role
from service.transport.body import BodyLimit
from service.transport.parser_thread import ParserThread
from service.v2 import inference_pb2 as pb
from service.v2.codec import short
from service.v2.data_plane import DataPlane
from service.v2.grpc_calls import Calls
from service.v2.grpc_messages import (
    config_for,
    index_for,
    metadata_for,
    parameters_of,
    request_of,
    response_for,
    statistics_for,
)
from service.v2.grpc_transport import Context, make_server
from service.v2.messages import InferRequest

PROBES = frozenset({"ServerLive", "ServerReady"})
ADMIN = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})

log = logging.getLogger(__name__)

Incoming = TypeVar("Incoming")
Read = TypeVar("Read", bound=Message)
Answer = Callable[[Incoming, Context], Awaitable[Message]]


class GrpcServer:
    """A gRPC server over the data plane."""

    def __init__(
        self,
        data_plane: DataPlane,
        request_log: RequestLog,
        parsers: ParserThread,
        settings: Settings,
    ) -> None:
        """Store the dependencies.

        Args:
            data_plane: answers the calls.
            request_log: begins and finishes requests; the same as for HTTP.
            parsers: parses large messages.
            settings: address, TLS files, keys, limits of a message.
        """
        self._data_plane = data_plane
        self._parsers = parsers
        self._settings = settings
        body = BodyLimit(settings.max_body_bytes, settings.body_timeout_s)
        self._calls = Calls(request_log, Access(settings), body)
        self._server: grpc.aio.Server | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start to listen.

        Raises:
            RuntimeError: the port is taken.
        """
        self._server = make_server(
            self._settings.max_body_bytes, self._handlers(), self._calls.refuse
        )
        host = self._settings.host
        host = f"[{host}]" if ":" in host else host
        port = self._add_port(self._server, f"{host}:{self._settings.grpc_port}")
        await self._server.start()
        log.info("gRPC running on %s:%d", host, port)

    def _add_port(self, server: grpc.aio.Server, address: str) -> int:
        certificate, key = self._settings.tls_cert_file, self._settings.tls_key_file
        if certificate is None or key is None:
            return server.add_insecure_port(address)
        pair = key.read_bytes(), certificate.read_bytes()
        return server.add_secure_port(address, grpc.ssl_server_credentials([pair]))

    def begin_to_close(self) -> None:
        """Take no new calls. Calls in flight may take as long to finish as HTTP requests."""
        if self._server is not None and self._closing is None:
            self._closing = asyncio.create_task(self._server.stop(self._settings.drain_limit_s))

    async def close(self) -> None:
        """Take no new calls, and wait until those in flight have finished or the time limit is reached."""
        self.begin_to_close()
        if self._closing is not None:
            await self._closing

    def _handlers(self) -> dict[str, "grpc.RpcMethodHandler[Any, Any]"]:
        calls: Mapping[str, tuple[type[Message], Answer[Any]]] = {
            "ServerLive": (pb.ServerLiveRequest, self._live),
            "ServerReady": (pb.ServerReadyRequest, self._ready),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": (pb.ModelMetadataRequest, self._metadata),
            "ModelConfig": (pb.ModelConfigRequest, self._config),
            "ModelStatistics": (pb.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self._unload),
        }
        handlers = {
            name: self._handler(name, partial(_read, kind), answer)
            for name, (kind, answer) in calls.items()
        }
        infer = self._handler("ModelInfer", self._read_infer, self._infer)
        return {**handlers, "ModelInfer": infer}

    def _handler(
        self, name: str, read: Callable[[bytes], Incoming], answer: Answer[Incoming]
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        async def answer_bytes(raw: bytes, context: Context) -> bytes:
            message = await self._parsers.parse(read, raw)
            return (await answer(message, context)).SerializeToString()

        return self._calls.handler(name, _role_of(name), answer_bytes)

    def _read_infer(self, raw: bytes) -> InferRequest:
        return request_of(_read(pb.ModelInferRequest, raw), self._data_plane.limits)

    async def _live(self, _: pb.ServerLiveRequest, __: Context) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, _: pb.ServerReadyRequest, __: Context) -> Message:
        try:
            await self._data_plane.check_ready()
        except AbsorbError:
            return pb.ServerReadyResponse(ready=False)
        return pb.ServerReadyResponse(ready=True)

    async def _model_ready(self, message: pb.ModelReadyRequest, _: Context) -> Message:
        try:
            self._data_plane.check_model_ready(message.name, message.version)
        except AbsorbError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def _server_metadata(self, _: pb.ServerMetadataRequest, __: Context) -> Message:
        server = self._data_plane.server()
        return pb.ServerMetadataResponse(
            name=server.name, version=server.version, extensions=server.extensions
        )

    async def _metadata(self, message: pb.ModelMetadataRequest, _: Context) -> Message:
        return metadata_for(self._data_plane.metadata(message.name, message.version))

    async def _infer(self, request: InferRequest, context: Context) -> Message:
        timed = _within(request, context.time_remaining())
        return response_for(await self._data_plane.infer(timed))

    async def _config(self, message: pb.ModelConfigRequest, _: Context) -> Message:
        return config_for(self._data_plane.config(message.name, message.version))

    async def _statistics(self, message: pb.ModelStatisticsRequest, _: Context) -> Message:
        return statistics_for(self._data_plane.statistics(message.name, message.version))

    async def _index(self, message: pb.RepositoryIndexRequest, _: Context) -> Message:
        return index_for(self._data_plane.index(message.ready))

    async def _load(self, message: pb.RepositoryModelLoadRequest, _: Context) -> Message:
        await self._data_plane.load(message.model_name, parameters_of(message.parameters))
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, message: pb.RepositoryModelUnloadRequest, _: Context) -> Message:
        await self._data_plane.unload(message.model_name)
        return pb.RepositoryModelUnloadResponse()


def _role_of(call: str) -> Role | None:
    if call in PROBES:
        return None
    return Role.ADMIN if call in ADMIN else Role.SCORING


def _read(kind: type[Read], raw: bytes) -> Read:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise RequestError("message", short(raw), f"a message of type {name}") from error


def _within(request: InferRequest, remaining_s: float | None) -> InferRequest:
    """Shorten the request's timeout to the time that is left of the client's gRPC deadline."""
    timeout_us = request.parameters.get("timeout", 0)
    if remaining_s is None or type(timeout_us) is not int or timeout_us < 0:
        return request  # a wrong timeout is refused where those of HTTP are
    remaining_us = max(1, int(remaining_s * 1e6))
    timeout_us = min(timeout_us, remaining_us) if timeout_us > 0 else remaining_us
    return replace(request, parameters={**request.parameters, "timeout": timeout_us})
