"""Chooses the engine of one artifact: the fastest that runs here, fits the model and scores as ONNX Runtime does."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import cast

import numpy as np

from models.contract.artifact import SCORE, Artifact
from models.contract.errors import AbsorbError
from service.runtime.encoder import Encoder
from service.runtime.engines.check import check_engine, check_slates
from service.runtime.engines.engine import Engine, EngineSlate, OpenEngine, UnfitError
from service.runtime.engines.guarded import FallbackReason, GuardedEngine
from service.runtime.engines.onnxruntime import CPU, OnnxRuntimeEngine

AUTO = "auto"
ONNXRUNTIME = "onnxruntime"
ENGINES: Mapping[str, str] = {
    "torch": "service.runtime.engines.torch",
    "cuda": "service.runtime.engines.cuda",
    "native": "service.runtime.engines.native",
}
"""Engine -> module whose `open_engine` opens it (`OpenEngine`), the fastest first. ONNX Runtime, which runs every
artifact, is not listed."""

ON_GPU = ("torch", "cuda")
"""Engines that need a GPU. On a CPU they are opened only by name, for tests: looking for a GPU by importing torch would
take seconds."""
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg")
"""Device files of which one exists where NVIDIA's driver runs; the second under Windows' Linux."""

log = logging.getLogger(__name__)
OnFallback = Callable[[str, FallbackReason], None]
"""Called with the engine's name for each slate that ONNX Runtime scores in its place."""


@dataclass(frozen=True)
class Choice:
    """The engine of an artifact.

    Attributes:
        engine: scores the artifact.
        reason: why it was chosen, in few words: "named", "fits", "only one", or "native: no plan", the engine that
            does not score, and why.
        refused: engine -> why it does not score, as a sentence.
    """

    engine: Engine
    reason: str
    refused: Mapping[str, str] = field(default_factory=dict)


def choose(
    wanted: str, artifact: Artifact, encoder: Encoder, num_threads: int, on_fallback: OnFallback
) -> Choice:
    """Open the wanted engine, or the first that fits; ONNX Runtime if none does.

    Args:
        wanted: "auto", "onnxruntime", or one of `ENGINES`.
        artifact: verified.
        encoder: makes the states that engines are compared on.
        num_threads: threads of one call.
        on_fallback: called when ONNX Runtime scores a slate in an engine's place.

    Raises:
        ArtifactError: a file of the artifact was changed or removed.
        Exception: ONNX Runtime refuses the score graph.
    """
    # On the CPU: what stands by for an engine on a GPU must not fail with the GPU.
    open_standby = partial(_open_onnxruntime, artifact, num_threads, [CPU])
    names = () if wanted == ONNXRUNTIME else ENGINES if wanted == AUTO else (wanted,)
    reason, refused = "named" if wanted == ONNXRUNTIME else "only one", {}
    standby: Engine | None = None
    for name in names:
        try:
            if wanted == AUTO:
                _check_device(name)
            engine = _open(name, artifact, num_threads)
            standby = standby or open_standby()
            _check(engine, standby, artifact, encoder)
        except UnfitError as error:
            reason, refused[name] = f"{name}: {error.reason}", error.detail
            _log_refused(wanted, name, error)
            continue
        guarded = GuardedEngine(engine, open_standby, partial(on_fallback, name))
        return Choice(guarded, "named" if wanted == name else "fits", refused)
    del standby  # before the next session takes memory
    return Choice(_open_onnxruntime(artifact, num_threads), reason, refused)


def _check_device(name: str) -> None:
    """Raise UnfitError for an engine that needs a GPU where there is none."""
    if name in ON_GPU and not any(map(os.path.exists, GPU_FILES)):
        raise UnfitError("no device", f"no NVIDIA GPU: neither of {', '.join(GPU_FILES)} exists")


def _open(name: str, artifact: Artifact, num_threads: int) -> Engine:
    """Open one of `ENGINES`.

    Raises:
        UnfitError: it does not run here, or not this artifact.
    """
    try:
        module = import_module(ENGINES[name])
        open_engine = cast("OpenEngine", module.open_engine)
        return open_engine(artifact, num_threads)
    except UnfitError:
        raise
    except ImportError as error:
        raise UnfitError("not installed", f"not installed: {error}") from error
    except AbsorbError as error:
        raise UnfitError("plan", str(error)) from error
    except Exception as error:  # whatever a library raises
        raise UnfitError("failed", f"{type(error).__name__}: {error}") from error


def _check(engine: Engine, onnxruntime: Engine, artifact: Artifact, encoder: Encoder) -> None:
    """Raise UnfitError, and close the engine, unless it scores as ONNX Runtime does."""
    try:
        check_engine(engine, onnxruntime, _slates(artifact, encoder))
    except BaseException:
        engine.close()
        raise


def _slates(artifact: Artifact, encoder: Encoder) -> list[EngineSlate]:
    """Slates of a user without history, of one whose history is full, and of one with a short history."""
    schema, rng = artifact.manifest.schema, np.random.default_rng(0)
    lengths = (schema.history_length, schema.history_length // 3 + 1)
    states = [encoder.cold_start(), *(encoder.random_state(length, rng) for length in lengths)]
    return check_slates(schema, states, rng)


def _open_onnxruntime(
    artifact: Artifact, num_threads: int, providers: Sequence[str] | None = None
) -> Engine:
    recent_length = artifact.manifest.schema.recent_length
    return OnnxRuntimeEngine(artifact.graph(SCORE), recent_length, num_threads, providers)


def _log_refused(wanted: str, name: str, error: UnfitError) -> None:
    """Log at a warning's level what an operator asked for by name, or what is wrong rather than absent."""
    is_absent = error.reason in ("not installed", "no device", "no library", "no plan", "shape")
    level = logging.INFO if wanted == AUTO and is_absent else logging.WARNING
    fields = {"engine": name, "reason": error.reason, "error": error.detail}
    log.log(level, "the engine does not score this artifact; another one does", extra=fields)
