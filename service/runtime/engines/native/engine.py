"""The engine of item slots on a CPU: the fused kernel of `service/native/item_slots.h`."""

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.contract.plan import ItemSlotsPlan
from service.errors import ScoreError
from service.native.library import Library, NativeLibraryError
from service.runtime.engines.engine import CPU_DEVICE, EngineSlate, Help, Limits, Logits
from service.runtime.engines.native.packing import (
    PackedPlan,
    ProgressStructure,
    RequestStructure,
    address,
)

Isa = Literal["generic", "avx2", "avx512"]
ISAS: tuple[Isa, ...] = get_args(Isa)
"""Instruction sets by their numbers in native.h, the fastest last. "generic" is SSE2 on x86-64 and NEON on ARM."""
MIN_SHARE = 64
"""Candidates for each thread of a call. With fewer, most of the work is the user's part, which every thread repeats."""
PROBLEMS = {
    1: "slot_items: got a row that is not of the catalogue",
    2: "recent: got a row that is not of the catalogue",
    3: "context: got an id that is not of its field",
    4: "items: got a row that is not of the catalogue",
    5: "candidate fields: got an id that is not of its field",
    6: "scratch: got too little memory",
    7: "instruction set: this CPU lacks it",
}
"""What the kernel returns instead of 0 -> what was wrong."""


class NativeEngine:
    """Scores one slate after the other, without the interpreter's lock: on the calling thread, with help if offered.

    Attributes:
        isa: instruction set of the kernel.
    """

    name = "native"
    device = CPU_DEVICE
    limits = Limits(is_shared=True)
    memory = None

    def __init__(self, plan: ItemSlotsPlan, library: Library, isa: Isa | None = None) -> None:
        """Pack the plan.

        Args:
            plan: checked.
            library: of this machine.
            isa: None: the fastest that the CPU has.

        Raises:
            NativeLibraryError: the library lacks a function.
            ValueError: the CPU lacks the instruction set.
        """
        functions = bind(library.handle)
        supported = supported_isas(library)
        self.isa: Isa = isa or supported[-1]
        if self.isa not in supported:
            raise ValueError(f"instruction set: got {isa!r}, expected one of {supported}")
        number = ISAS.index(self.isa)
        lanes = functions.absorb_item_slots_lanes(number)
        panel = functions.absorb_item_slots_panel(number)
        self._plan: PackedPlan | None = PackedPlan(plan, lanes, panel)
        self._sizes, self._functions, self._number = plan.sizes, functions, number
        structure = ctypes.byref(self._plan.structure)
        self._scratch_floats: int = functions.absorb_item_slots_scratch(structure)
        self._own = threading.local()

    def score_many(self, slates: Sequence[EngineSlate]) -> list[Logits | ScoreError]:
        """Logits of each slate, or why it alone could not be scored."""
        return [self._score(slate, None) for slate in slates]

    def timed(self, slate: EngineSlate) -> tuple[Logits | ScoreError, NDArray[np.float64]]:
        """Logits, and seconds of the user part, the attention and the head."""
        seconds = np.zeros(3)
        return self._score(slate, seconds), seconds

    def close(self) -> None:
        """Free the packed plan and the threads' scratch memory."""
        self._plan, self._own = None, threading.local()

    def _score(
        self, slate: EngineSlate, seconds: NDArray[np.float64] | None
    ) -> Logits | ScoreError:
        if self._plan is None:
            raise RuntimeError("engine: got a slate after close()")
        sizes, state, count = self._sizes, slate.state, len(slate.items)
        try:
            arrays = (
                _array("slot_items", state["slot_items"], np.int32, (sizes.rank,)),
                _array("slot_sums", state["slot_sums"], np.float32, (sizes.rank, sizes.heads)),
                _array("profile", state["profile"], np.float32, (sizes.profile,)),
                _array("recent", slate.recent, np.int64, (len(slate.recent),)),
                _array("context", slate.context, np.int64, (len(sizes.context),)),
                _array("items", slate.items, np.int64, (count,)),
                _array("fields", slate.fields, np.int64, (count, len(sizes.candidate))),
            )
        except ScoreError as error:
            return error
        logits, scratch = np.empty(count, np.float32), self._scratch()
        request = RequestStructure(
            len(slate.recent), count, *map(address, arrays), address(logits), address(scratch),
            len(scratch), None if seconds is None else address(seconds),
        )  # fmt: skip
        call = Call(self._functions, self._number, self._plan, request, (*arrays, logits))
        if slate.help is None or count < 2 * MIN_SHARE or seconds is not None:
            problem = call.run()
        else:
            problem = call.share(slate.help, count // MIN_SHARE - 1, self._scratch)
        return ScoreError(PROBLEMS[problem]) if problem else logits

    def _scratch(self) -> NDArray[np.float32]:
        """Memory of the calling thread."""
        scratch: NDArray[np.float32] | None = getattr(self._own, "scratch", None)
        if scratch is None:
            scratch = self._own.scratch = np.empty(self._scratch_floats, np.float32)
        return scratch


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the kernel. A helper may come when the call has ended, so this holds what its pointers point to.

    Attributes:
        functions: of the library.
        isa: number of the instruction set.
        plan: of the engine.
        request: as the owner's thread passes it.
        held: arrays that `request` points to, apart from the scratch memory.
    """

    functions: ctypes.CDLL
    isa: int
    plan: PackedPlan
    request: RequestStructure
    held: tuple[NDArray[Any], ...]

    def run(self) -> int:
        """Score all candidates on this thread; returns the problem's number, or 0."""
        structures = ctypes.byref(self.plan.structure), ctypes.byref(self.request)
        return int(self.functions.absorb_item_slots_score(self.isa, *structures))

    def share(self, help: Help, most: int, scratch: Callable[[], NDArray[np.float32]]) -> int:
        """Score the candidates together with up to `most` other threads; returns the problem's number, or 0.

        Args:
            help: runs the other threads.
            most: their largest number.
            scratch: gives the calling thread's own memory.
        """
        progress = ProgressStructure()

        def share(request: RequestStructure, is_owner: int) -> int:
            structures = map(ctypes.byref, (self.plan.structure, request, progress))
            return int(self.functions.absorb_item_slots_share(self.isa, *structures, is_owner))

        def assist() -> None:
            if progress.taken < self.request.num_items:
                memory = scratch()
                own = RequestStructure.from_buffer_copy(self.request)
                own.scratch, own.scratch_floats = address(memory), len(memory)
                share(own, 0)

        help(assist, most)
        return share(self.request, 1)


def bind(handle: ctypes.CDLL) -> ctypes.CDLL:
    """Set the types of the kernel's functions.

    Raises:
        NativeLibraryError: the library lacks one.
    """
    try:
        return _bind(handle)
    except AttributeError as error:
        raise NativeLibraryError(f"native library: it is older: {error}") from error


def _bind(handle: ctypes.CDLL) -> ctypes.CDLL:
    number, structure = ctypes.c_int32, ctypes.c_void_p
    handle.absorb_isa_supported.argtypes = [number]
    handle.absorb_item_slots_lanes.argtypes = handle.absorb_item_slots_panel.argtypes = [number]
    handle.absorb_item_slots_scratch.argtypes = [structure]
    handle.absorb_item_slots_scratch.restype = ctypes.c_int64
    handle.absorb_item_slots_score.argtypes = [number, structure, structure]
    handle.absorb_item_slots_share.argtypes = [number, structure, structure, structure, number]
    handle.absorb_peak.argtypes = [number, ctypes.c_int64, structure]
    handle.absorb_peak.restype = ctypes.c_double
    return handle


def supported_isas(library: Library) -> list[Isa]:
    """Instruction sets of this CPU that the library has code for, the fastest last."""
    handle = bind(library.handle)
    return [isa for number, isa in enumerate(ISAS) if handle.absorb_isa_supported(number)]


def _array(
    name: str, values: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]
) -> NDArray[Any]:
    """The values as the kernel reads them; copied only where dtype or layout differ.

    Raises:
        ScoreError: the shape is another one; the kernel would read beyond the array.
    """
    if values.shape != shape:
        raise ScoreError(f"{name}: got shape {values.shape}, expected {shape}")
    return np.ascontiguousarray(values, dtype)
