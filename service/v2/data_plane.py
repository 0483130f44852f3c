"""The V2 data plane: every door of the protocol calls this, and it knows none of them."""

import asyncio
import time
from collections.abc import Callable, Sequence

from models.contract.errors import RequestError
from models.contract.generation import Generation
from models.contract.version import package_version
from service.errors import NotReadyError, UnknownVersionError
from service.generations.follower import Follower
from service.generations.selection import Selection
from service.generations.serving import Serving
from service.query import Query, Scores
from service.runtime.readiness import Readiness
from service.scoring.pipeline import Pipeline
from service.settings import Settings
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
PLATFORM = "onnxruntime_onnx"
TRIES = 2
"""For a request of several users: between their scores a new generation may begin to serve."""

Json = dict[str, object]


def version_of(generation: Generation) -> str:
    """The version under which a generation is asked for: the second of its publish."""
    return str(generation.created_s)


class DataPlane:
    """Answers what the protocol asks, from what the pipeline scores and the follower keeps.

    Attributes:
        readiness: whether this process should get requests.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        selection: Selection,
        follower: Follower,
        readiness: Readiness,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self.readiness = readiness
        self._pipeline = pipeline
        self._selection = selection
        self._follower = follower
        self._settings = settings
        self._clock = clock
        self._statistics = Statistics()

    def server(self) -> ServerMetadata:
        """Who answers."""
        return SERVER

    async def check_ready(self) -> None:
        """Return if a real score worked a moment ago, and this process is not about to end.

        Raises:
            NotReadyError: it should get no requests; says why.
        """
        self.readiness.check()

    def check_model_ready(self, model: str, version: str = "") -> None:
        """Return if a model, and this version of it, serves.

        Raises:
            UnknownModelError: no such model.
            UnknownVersionError: no such version.
            NotReadyError: it does not serve.
        """
        self._pick(model, version)

    async def infer(self, request: InferRequest) -> InferResponse:
        """Score.

        Raises:
            RequestError: a tensor or a parameter is not what the model takes.
            UnknownModelError: no such model.
            UnknownVersionError: that version does not serve.
            NotReadyError: the model does not serve, or generations changed during a request of several users.
            OverloadedError: too many requests at once.
            DeadlineError: the request's time is over.
        """
        serving = self._pick(request.model, request.version)
        started_ns = time.perf_counter_ns()
        version = version_of(serving.generation)
        try:
            queries = queries_of(request, list(serving.artifact.vocabulary.context), self._settings)
            answers = await self._score(queries)
            version = version_of(answers[0].generation)
            if request.version not in ("", version):
                raise UnknownVersionError(request.model, request.version, version)
            response = InferResponse(
                request.model, version, request.id, outputs_of(request, answers), _said(answers)
            )
        except Exception:
            self._statistics.failed(request.model, version, time.perf_counter_ns() - started_ns)
            raise
        took_ns = time.perf_counter_ns() - started_ns
        self._statistics.succeeded(request.model, version, answers, self._clock(), took_ns)
        return response

    async def _score(self, queries: Sequence[Query]) -> Sequence[Scores]:
        for _ in range(TRIES):
            answers = await self._score_once(queries)
            # By version: while a publish in place goes on, two artifacts share one.
            if len({version_of(one.generation) for one in answers}) == 1:
                return answers
        raise NotReadyError("not ready: generations change faster than this request is scored")

    async def _score_once(self, queries: Sequence[Query]) -> Sequence[Scores]:
        if len(queries) == 1:
            return [await self._pipeline.score(queries[0])]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._pipeline.score(one)) for one in queries]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return [one.result() for one in tasks]

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """What a model takes and gives.

        Raises:
            UnknownModelError: no such model.
            UnknownVersionError: no such version.
            NotReadyError: it does not serve.
        """
        serving = self._pick(model, version)
        inputs = inputs_of(list(serving.artifact.vocabulary.context))
        return ModelMetadata(model, (version_of(serving.generation),), PLATFORM, inputs, OUTPUTS)

    def config(self, model: str, version: str = "") -> Json:
        """The same as Triton's ModelConfig, in its JSON form; raises as `metadata` does."""
        about = self.metadata(model, version)
        return {
            "name": about.name,
            "platform": about.platform,
            "backend": "onnxruntime",
            "max_batch_size": 0,
            "version_policy": {"latest": {"num_versions": 1}},
            "input": [{**_configured(one), "optional": one.is_optional} for one in about.inputs],
            "output": [_configured(one) for one in about.outputs],
        }

    def index(self, ready_only: bool = False) -> list[IndexEntry]:
        """Every model that serves or should, by name."""
        serving, problems = self._selection.serving, self._selection.problems
        entries = [
            IndexEntry(name, version_of(serving[name].generation), "READY", problems.get(name, ""))
            if name in serving
            else IndexEntry(name, "", "UNAVAILABLE", problems[name])
            for name in sorted({*serving, *problems})
        ]
        return [one for one in entries if one.state == "READY" or not ready_only]

    async def load(self, model: str, parameters: Parameters) -> None:
        """Serve what is published under a name now; what serves goes on until that is loaded.

        Raises:
            RequestError: parameters, which would configure the model: its artifact does.
            UnknownModelError: nothing is published under that name.
            NotReadyError: it does not load; says why.
            CacheUnavailableError: nobody can say what is published.
        """
        if parameters:
            got = short(", ".join(parameters))
            raise RequestError("parameters", got, "none: a model is configured by its artifact")
        await self._follower.load(model)

    async def unload(self, model: str) -> None:
        """Serve a model no longer, until it is loaded again.

        Raises:
            UnknownModelError: no such model.
        """
        await self._follower.unload(model)

    def statistics(self, model: str = "", version: str = "") -> list[ModelStatistics]:
        """What the versions that serve have done; of all models if none is named. Raises as `metadata` does."""
        picked = [self._pick(model, version)] if model else self._selection.serving.values()
        return [
            self._statistics.of(one.generation.model, version_of(one.generation)) for one in picked
        ]

    def _pick(self, model: str, version: str) -> Serving:
        serving = self._selection.pick(model)
        serves = version_of(serving.generation)
        if version not in ("", serves):
            raise UnknownVersionError(model, version, serves)
        return serving


def _said(answers: Sequence[Scores]) -> Parameters:
    """Parameters of a response: whether, and why, scores are worth less than they could be."""
    reasons = [one.found.reason for one in answers if one.found.reason is not None]
    return {"degraded": True, "degraded_reason": reasons[0]} if reasons else {"degraded": False}


def _configured(tensor: TensorMetadata) -> Json:
    datatype = "STRING" if tensor.datatype == BYTES else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{datatype}", "dims": list(tensor.shape)}
