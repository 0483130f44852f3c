"""The protocol of an engine: dense ids and one user's tensors in, logits out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.contract.artifact import Artifact
from service.errors import ScoreError

State = Mapping[str, NDArray[Any]]
"""One user's tensors, without the batch axis."""
Ids = NDArray[np.int64]
Logits = NDArray[np.float32]

Reason = Literal[
    "not installed",
    "no device",
    "no library",
    "library",
    "no plan",
    "plan",
    "shape",
    "failed",
    "not finite",
    "differs",
]
"""Why an engine does not score an artifact, in the words of `absorb_engine_info`: its extra is not installed; there is
no accelerator; there is no compiled library, or it cannot be used here; the artifact has no plan, or it cannot be used;
the model has another form; opening or scoring failed; scores are not finite, or differ from those of ONNX Runtime."""

Help = Callable[[Callable[[], None], int], None]
"""Runs a function in up to so many idle threads of the service: soon, late, or never. Returns at once."""

CPU_DEVICE = "cpu"
"""`Engine.device` of an engine that runs on the CPU."""


@dataclass(frozen=True, slots=True)
class EngineSlate:
    """One user's candidates. Every id is a catalogue row or a dense id of its field, `PADDING` and `UNKNOWN` included.

    Attributes:
        state: the user's tensors, as the artifact's state spec says. They may be read-only and shared by threads.
        recent: catalogue rows of the latest items, newest last; any number, of which the latest N count.
        context: ids of the context fields, [num context fields].
        items: catalogue rows of the candidates, [C], at least one.
        fields: ids of the candidate fields, [C, num candidate fields].
        help: runs parts of this slate in other threads, for an engine whose limits say `is_shared`; None: no help.
    """

    state: State
    recent: Ids
    context: Ids
    items: Ids
    fields: Ids
    help: Help | None = None


@dataclass(frozen=True)
class Limits:
    """What one call of an engine takes. ONNX Runtime scores a slate that is beyond them.

    Attributes:
        slates: most slates of one call; None: any number.
        candidates: most candidates of one slate; None: any number.
        is_shared: whether it uses `EngineSlate.help`.
    """

    slates: int | None = None
    candidates: int | None = None
    is_shared: bool = False


class StateMemory(Protocol):
    """Where an engine keeps users' states on a device, in slots of one size. Several threads may use it.

    Attributes:
        slot_bytes: size of a slot.
    """

    @property
    def slot_bytes(self) -> int:
        """Size of a slot."""

    def write(self, state: State) -> State:
        """Copy a state into a free slot; when this returns, the copy has ended.

        Returns:
            The state in its slot: the engine scores it without a copy. The slot is free again once nothing refers to
            the returned object.

        Raises:
            ScoreError: the state cannot be scored.
            Exception: the device failed.
        """


class Engine(Protocol):
    """Computes logits with one artifact's score graph, or with what stands for it.

    Several threads may call `score_many` at once. An engine frees its memory when it is closed or collected.

    Attributes:
        name: the engine's name in `ABSORB_ENGINE`.
        device: `CPU_DEVICE`, or the accelerator, for example "cuda:0".
        limits: what one call takes.
        memory: where it keeps users' states; None: it copies the state of every slate.
    """

    @property
    def name(self) -> str:
        """The engine's name in `ABSORB_ENGINE`."""

    @property
    def device(self) -> str:
        """`CPU_DEVICE`, or the accelerator, for example "cuda:0"."""

    @property
    def limits(self) -> Limits:
        """What one call takes."""

    @property
    def memory(self) -> StateMemory | None:
        """Where it keeps users' states; None: it copies the state of every slate."""

    def score_many(self, slates: Sequence[EngineSlate]) -> list[Logits | ScoreError]:
        """Logits of each slate, [C], or why it alone could not be scored.

        Logits need not be finite: the scorer checks them.

        Raises:
            Exception: the call failed as a whole; the caller may try the slates one by one.
        """

    def close(self) -> None:
        """Free memory of the engine. No call may be running, and none may follow; a second `close` does nothing."""


class OpenEngine(Protocol):
    """The function `open_engine` of an engine's module.

    It is called for every artifact, and must refuse early what it cannot score: importing the module and refusing must
    not load a large library. What the engine needs beside the service's own dependencies is imported in the function.
    """

    def __call__(self, artifact: Artifact, num_threads: int) -> Engine:
        """Open the engine for one artifact.

        Args:
            artifact: verified. `Artifact.read` hashes what it returns.
            num_threads: threads of one call, for an engine that can use several.

        Raises:
            UnfitError: the engine does not run here, or not this artifact.
            AbsorbError: a file of the artifact was changed or removed.
        """


class UnfitError(Exception):
    """An engine cannot score an artifact here. Another one does.

    Attributes:
        reason: why, in few words.
        detail: why, as a sentence for operators: what came and what was expected.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason: Reason = reason
        self.detail = detail
        super().__init__(detail)
