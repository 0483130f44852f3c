"""The V2 data plane: answers the calls of the protocol, whatever transport carries them (HTTP or gRPC)."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from models.contract.errors import RequestError
from models.contract.generation import Generation
from models.contract.version import package_version
from service.errors import NotReadyError, UnknownVersionError
from service.generations.follower import Follower
from service.generations.selection import Selection
from service.generations.serving import Serving
from service.observability.request_context import CURRENT
from service.query import Query, Scores
from service.runtime.readiness import Readiness
from service.runtime.scorer import UnknownFields
from service.scoring.pipeline import Pipeline
from service.settings import Settings
from service.state.follow import FollowReader
from service.transport.limits import SlateLimits
from service.transport.parser_thread import ParserThread
from service.v2.codec import short
from service.v2.messages import (
    BYTES,
    IndexEntry,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelStatistics,
    Parameters,
    ServerMetadata,
    TensorMetadata,
)
from service.v2.stats import Statistics
from service.v2.tensors import OUTPUTS, inputs_of, outputs_of, queries_of

SERVER = ServerMetadata(
    "absorb",
    package_version(),
    (
        "binary_tensor_data",
        "model_configuration",
        "model_repository",
        "parameters",
        "schedule_policy",
        "statistics",
    ),
)
MANY_ELEMENTS = 10_000
"""Elements of a request's inputs above which they are translated outside of the event loop's thread."""
PLATFORM = "onnxruntime_onnx"
TRIES = 2
"""Attempts for a request of several users: a new generation may begin to serve between their scores."""

Json = dict[str, object]


def version_of(generation: Generation) -> str:
    """Version number of a generation: the epoch second of its publish."""
    return str(generation.created_s)


class DataPlane:
    """Answers the calls of the protocol with the pipeline and the selection.

    Attributes:
        readiness: whether this process should get requests.
        limits: lengths of a request's inputs; the readers of requests check them.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        selection: Selection,
        follower: Follower,
        readiness: Readiness,
        parsers: ParserThread,
        settings: Settings,
        clock: Callable[[], float],
        follow: FollowReader,
    ) -> None:
        self.readiness = readiness
        self.limits = SlateLimits.of(settings)
        self._pipeline = pipeline
        self._selection = selection
        self._follower = follower
        self._parsers = parsers
        self._settings = settings
        self._clock = clock
        self._follow = follow
        self._statistics = Statistics()

    def server(self) -> ServerMetadata:
        """Name, version and extensions of this server."""
        return SERVER

    async def check_ready(self) -> None:
        """Return if this process should get requests.

        Raises:
            NotReadyError: it should not, with the reason.
        """
        self.readiness.check()

    def check_model_ready(self, model: str, version: str = "") -> None:
        """Return if a model, and this version of it, serves; an empty version means any.

        Raises:
            UnknownModelError: no such model.
            UnknownVersionError: another version serves.
            NotReadyError: the model does not serve.
        """
        self._pick(model, version)

    async def infer(self, request: InferRequest) -> InferResponse:
        """Score the candidates of one or several users.

        Raises:
            RequestError: a tensor or a parameter does not fit the model.
            UnknownModelError: no such model.
            UnknownVersionError: another version serves.
            NotReadyError: the model does not serve, or generations changed during a request of several users.
            OverloadedError: too many requests at once.
            DeadlineError: the request's deadline passed.
        """
        serving = self._pick(request.model, request.version)
        started_ns = time.perf_counter_ns()
        version = version_of(serving.generation)
        try:
            answers = await self._score(await self._queries(request, serving))
            version = version_of(answers[0].generation)
            if request.version not in ("", version):
                raise UnknownVersionError(request.model, request.version, version)
            response = InferResponse(
                request.model,
                version,
                request.id,
                outputs_of(request, answers),
                {**_degradation(answers), **_unknown(answers), **self._freshness(answers[0])},
            )
        except Exception:
            self._statistics.failed(request.model, version, time.perf_counter_ns() - started_ns)
            raise
        took_ns = time.perf_counter_ns() - started_ns
        self._statistics.succeeded(request.model, version, answers, self._clock(), took_ns)
        return response

    async def _queries(self, request: InferRequest, serving: Serving) -> Sequence[Query]:
        """The request's queries; those of many elements are made in the parsers' thread."""
        vocabulary, settings = serving.artifact.vocabulary, self._settings
        if sum(len(tensor.data) for tensor in request.inputs) > MANY_ELEMENTS:
            return await self._parsers.run(queries_of, request, vocabulary, settings)
        return queries_of(request, vocabulary, settings)

    async def _score(self, queries: Sequence[Query]) -> Sequence[Scores]:
        for _ in range(TRIES):
            answers = await self._score_once(queries)
            # Versions, not artifacts: during a rolling publish one version has two artifacts.
            if len({version_of(answer.generation) for answer in answers}) == 1:
                return answers
        raise NotReadyError("not ready: generations change faster than this request is scored")

    async def _score_once(self, queries: Sequence[Query]) -> Sequence[Scores]:
        if len(queries) == 1:
            return [await self._pipeline.score(queries[0])]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._pipeline.score(query)) for query in queries]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return [task.result() for task in tasks]

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """Inputs and outputs of a model.

        Raises:
            UnknownModelError: no such model.
            UnknownVersionError: another version serves.
            NotReadyError: the model does not serve.
        """
        serving = self._pick(model, version)
        inputs = inputs_of(serving.artifact.vocabulary)
        return ModelMetadata(model, (version_of(serving.generation),), PLATFORM, inputs, OUTPUTS)

    def config(self, model: str, version: str = "") -> Json:
        """Inputs and outputs as the JSON form of Triton's ModelConfig; raises as `metadata` does."""
        metadata = self.metadata(model, version)
        engine = self._pick(model, version).scorer.choice.engine
        return {
            "name": metadata.name,
            "platform": metadata.platform,
            "backend": "onnxruntime",
            "max_batch_size": 0,
            "version_policy": {"latest": {"num_versions": 1}},
            "input": [
                {**_configured(tensor), "optional": tensor.is_optional}
                for tensor in metadata.inputs
            ],
            "output": [_configured(tensor) for tensor in metadata.outputs],
            "parameters": {
                "engine": {"string_value": engine.name},
                "device": {"string_value": engine.device},
            },
        }

    def index(self, ready_only: bool = False) -> list[IndexEntry]:
        """Every model that serves or should serve, sorted by name."""
        serving, problems = self._selection.serving, self._selection.problems
        entries = [
            IndexEntry(name, version_of(serving[name].generation), "READY", problems.get(name, ""))
            if name in serving
            else IndexEntry(name, "", "UNAVAILABLE", problems[name])
            for name in sorted({*serving, *problems})
        ]
        return [entry for entry in entries if entry.state == "READY" or not ready_only]

    async def load(self, model: str, parameters: Parameters) -> None:
        """Load the published generation of a model now. The present one serves until the new one is loaded.

        Raises:
            RequestError: there are parameters: only a model's artifact configures it.
            UnknownModelError: no such model is published.
            NotReadyError: the generation does not load, with the reason.
            CacheUnavailableError: the pointers cannot be read.
        """
        if parameters:
            got = short(", ".join(parameters))
            raise RequestError("parameters", got, "none: a model is configured by its artifact")
        await self._follower.load(model)

    async def unload(self, model: str) -> None:
        """Stop serving a model until it is loaded again.

        Raises:
            UnknownModelError: no such model.
        """
        request = CURRENT.get()
        by = f" by request {request.request_id}" if request is not None else ""
        now = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")
        await self._follower.unload(model, f"at {now}{by}")

    def _freshness(self, answer: Scores) -> Parameters:
        """Parameters that say how far the model's states are behind; none if no worker follows it."""
        freshness = self._follow.freshness(answer.generation.model)
        if freshness is None:
            return {}
        return {
            "states_complete": freshness.complete,
            "states_lag_ms": round(1000 * freshness.lag_s),
        }

    def statistics(self, model: str = "", version: str = "") -> list[ModelStatistics]:
        """Statistics of a model's serving version, or of all models if none is named. Raises as `metadata` does."""
        picked = [self._pick(model, version)] if model else self._selection.serving.values()
        generations = [serving.generation for serving in picked]
        return [
            self._statistics.of(generation.model, version_of(generation))
            for generation in generations
        ]

    def _pick(self, model: str, version: str) -> Serving:
        serving = self._selection.pick(model)
        serves = version_of(serving.generation)
        if version not in ("", serves):
            raise UnknownVersionError(model, version, serves)
        return serving


def _degradation(answers: Sequence[Scores]) -> Parameters:
    """Parameters of a response that say whether its scores are degraded, and why."""
    reasons = [answer.found.reason for answer in answers if answer.found.reason is not None]
    return {"degraded": True, "degraded_reason": reasons[0]} if reasons else {"degraded": False}


def _unknown(answers: Sequence[Scores]) -> Parameters:
    """Parameters with unknown values as JSON, under their names in POST /v1/score; none for what is all known."""
    listed = {
        "unknown_candidate_fields": _joined(answer.unknown_fields for answer in answers),
        "unknown_context": _joined(answer.unknown_context for answer in answers),
    }
    return {
        name: json.dumps(unknown, ensure_ascii=False) for name, unknown in listed.items() if unknown
    }


def _joined(every: Iterable[UnknownFields]) -> UnknownFields:
    """Field -> values of all users, each once."""
    joined: UnknownFields = {}
    for unknown in every:
        for name, values in unknown.items():
            joined[name] = list(dict.fromkeys([*joined.get(name, ()), *values]))
    return joined


def _configured(tensor: TensorMetadata) -> Json:
    datatype = "STRING" if tensor.datatype == BYTES else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{datatype}", "dims": list(tensor.shape)}
