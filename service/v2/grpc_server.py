"""The Open Inference Protocol V2 over gRPC: a second door to the data plane, on the event loop of the first.

A client's gRPC deadline is the request's timeout, where it is the shorter one. What is refused has the gRPC code of its
HTTP status and the same text. Calls that the protocol's file does not have (shared memory, tracing, streams)
are answered UNIMPLEMENTED by gRPC itself.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from models.contract.errors import AbsorbError, RequestError
from service.observability.request_context import CURRENT
from service.observability.request_log import REQUEST_ID, Watch
from service.settings import Settings
from service.status import GRPC_CODES, status_of, text_of
from service.transport.auth import Access, Role
from service.v2 import inference_pb2 as pb
from service.v2.codec import short
from service.v2.data_plane import DataPlane
from service.v2.grpc_messages import (
    config_for,
    index_for,
    metadata_for,
    parameters_of,
    request_of,
    response_for,
    statistics_for,
)
from service.v2.messages import InferRequest

PROBES = frozenset({"ServerLive", "ServerReady"})
ADMIN = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})
SERVICE = "inference.GRPCInferenceService"
METHOD = "GRPC"
"""In metrics, logs and spans."""

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Asked = TypeVar("Asked", bound=Message, contravariant=True)
Answer = Callable[[Asked, Context], Awaitable[Message]]


class GrpcServer:
    """A gRPC server over the data plane."""

    def __init__(self, data_plane: DataPlane, watch: Watch, settings: Settings) -> None:
        """Keep the parts.

        Args:
            data_plane: answers.
            watch: begins and finishes requests, as HTTP's.
            settings: where to listen is read from here, and how long a message may be: a longer one is refused with
                RESOURCE_EXHAUSTED by gRPC itself.
        """
        self._data_plane = data_plane
        self._watch = watch
        self._settings = settings
        self._access = Access(settings)
        self._server: grpc.aio.Server | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen.

        Raises:
            RuntimeError: the port is taken.
        """
        options = [
            ("grpc.max_receive_message_length", self._settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # two services would share one port without a word
        ]
        self._server = grpc.aio.server(options=options)
        handlers = grpc.method_handlers_generic_handler(SERVICE, self._handlers())
        self._server.add_generic_rpc_handlers((handlers,))
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
        """Take no call any more, and give those in flight the time that those over HTTP get."""
        if self._server is not None and self._closing is None:
            self._closing = asyncio.create_task(self._server.stop(self._settings.drain_limit_s))

    async def close(self) -> None:
        """The same, and wait until they have finished or the time is over."""
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
            "ModelInfer": (pb.ModelInferRequest, self._infer),
            "ModelConfig": (pb.ModelConfigRequest, self._config),
            "ModelStatistics": (pb.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self._unload),
        }
        return {name: self._handler(name, kind, answer) for name, (kind, answer) in calls.items()}

    def _handler(
        self, name: str, kind: type[Message], answer: Answer[Any]
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        route = f"/{SERVICE}/{name}"

        async def call(raw: bytes, context: Context) -> bytes:
            about, span = self._watch.begin(route, _headers(context))
            CURRENT.set(about)  # each call has a task, and so a context, of its own
            context.set_trailing_metadata(((REQUEST_ID.decode(), about.request_id),))
            status, text, said = 200, "", b""
            try:
                self._check(name, context)
                said = (await answer(_read(kind, raw), context)).SerializeToString()
            except Exception as error:
                status, text = _refusal(route, error)
            about.answered = time.perf_counter()
            # Soon, not now: the answer goes first.
            finish = self._watch.finish
            asyncio.get_running_loop().call_soon(finish, (route, METHOD), about, span, status)
            if status != 200:
                await context.abort(grpc.StatusCode[GRPC_CODES[status]], text)
            return said

        # Bytes in and out: gRPC itself would call a message that it cannot read an internal error.
        return grpc.unary_unary_rpc_method_handler(call)

    def _check(self, name: str, context: Context) -> None:
        """Return if the call brings the key that it needs; raises as `Access.check` does."""
        if name in PROBES:
            return
        sent = context.invocation_metadata() or ()
        headers = {key: value for key, value in sent if isinstance(value, str)}
        self._access.check(Role.ADMIN if name in ADMIN else Role.SCORING, headers)

    async def _live(self, _: pb.ServerLiveRequest, __: Context) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, _: pb.ServerReadyRequest, __: Context) -> Message:
        try:
            await self._data_plane.check_ready()
        except AbsorbError:
            return pb.ServerReadyResponse(ready=False)
        return pb.ServerReadyResponse(ready=True)

    async def _model_ready(self, asked: pb.ModelReadyRequest, _: Context) -> Message:
        try:
            self._data_plane.check_model_ready(asked.name, asked.version)
        except AbsorbError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def _server_metadata(self, _: pb.ServerMetadataRequest, __: Context) -> Message:
        about = self._data_plane.server()
        return pb.ServerMetadataResponse(
            name=about.name, version=about.version, extensions=about.extensions
        )

    async def _metadata(self, asked: pb.ModelMetadataRequest, _: Context) -> Message:
        return metadata_for(self._data_plane.metadata(asked.name, asked.version))

    async def _infer(self, asked: pb.ModelInferRequest, context: Context) -> Message:
        request = _within(request_of(asked), context.time_remaining())
        return response_for(await self._data_plane.infer(request))

    async def _config(self, asked: pb.ModelConfigRequest, _: Context) -> Message:
        return config_for(self._data_plane.config(asked.name, asked.version))

    async def _statistics(self, asked: pb.ModelStatisticsRequest, _: Context) -> Message:
        return statistics_for(self._data_plane.statistics(asked.name, asked.version))

    async def _index(self, asked: pb.RepositoryIndexRequest, _: Context) -> Message:
        return index_for(self._data_plane.index(asked.ready))

    async def _load(self, asked: pb.RepositoryModelLoadRequest, _: Context) -> Message:
        await self._data_plane.load(asked.model_name, parameters_of(asked.parameters))
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, asked: pb.RepositoryModelUnloadRequest, _: Context) -> Message:
        await self._data_plane.unload(asked.model_name)
        return pb.RepositoryModelUnloadResponse()


def _read(kind: type[Message], raw: bytes) -> Message:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise RequestError("message", short(raw), f"an {name}") from error


def _refusal(route: str, error: Exception) -> tuple[int, str]:
    """HTTP status and text of what went wrong."""
    status = status_of(error) if isinstance(error, AbsorbError) else 500
    if not isinstance(error, AbsorbError):
        log.error("request failed", extra={"path": route}, exc_info=error)
    elif status >= 500:
        log.warning("request refused", extra={"status": status, "error": str(error)})
    return status, text_of(error)


def _within(request: InferRequest, remaining_s: float | None) -> InferRequest:
    """The request, its timeout no longer than the client waits."""
    timeout_us = request.parameters.get("timeout", 0)
    if remaining_s is None or type(timeout_us) is not int:
        return request
    waits_us = max(1, int(remaining_s * 1e6))
    timeout_us = min(timeout_us, waits_us) if timeout_us > 0 else waits_us
    return replace(request, parameters={**request.parameters, "timeout": timeout_us})


def _headers(context: Context) -> list[tuple[bytes, bytes]]:
    """A call's metadata, as the headers of HTTP."""
    sent = context.invocation_metadata() or ()
    return [(_bytes(key), _bytes(value)) for key, value in sent]


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
