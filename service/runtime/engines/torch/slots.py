"""Users' states in device memory, in slots of one size."""

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import ScoreError
from service.runtime.engines.engine import State
from service.runtime.engines.torch.weights import Sizes

PROFILE, SLOT_ITEMS, SLOT_SUMS = "profile", "slot_items", "slot_sums"
WORD_BYTES = 4
CHUNK_SLOTS = 256
"""Slots that are allocated together."""


class StateLayout:
    """A state as 4-byte words: profile, rows of the slots, sums of the slots.

    Args:
        sizes: of the model.

    Attributes:
        words: size of a state.
    """

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._rows_at = sizes.profile
        self._sums_at = sizes.profile + sizes.slots
        self.words = self._sums_at + sizes.slots * sizes.heads

    def write(self, state: State, words: NDArray[np.int32]) -> None:
        """Lay a state out in `words`.

        Raises:
            ScoreError: a row is beyond the catalogue. On a device it would read memory of others.
        """
        rows = state[SLOT_ITEMS]
        if rows.min() < 0 or rows.max() >= self._sizes.items:
            raise ScoreError(f"slot_items: got a row beyond the catalogue's {self._sizes.items}")
        words[: self._rows_at].view(np.float32)[:] = state[PROFILE]
        words[self._rows_at : self._sums_at] = rows
        words[self._sums_at :].view(np.float32)[:] = state[SLOT_SUMS].reshape(-1)

    def read(self, words: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """Inverse of `write`."""
        return {
            PROFILE: words[: self._rows_at].view(np.float32),
            SLOT_ITEMS: words[self._rows_at : self._sums_at],
            SLOT_SUMS: words[self._sums_at :].view(np.float32).reshape(-1, self._sizes.heads),
        }

    def parts(self, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Profile, rows and sums of a state on a device, without copies."""
        sums = words[self._sums_at :].view(torch.float32).view(-1, self._sizes.heads)
        rows = words[self._rows_at : self._sums_at]
        return words[: self._rows_at].view(torch.float32), rows, sums


class DeviceState(Mapping[str, NDArray[Any]]):
    """One user's state in a slot. The slot is free again once no request, and no cache, refers to this object.

    A call of the engine refers to its states until the device has finished, so a slot is never written while a kernel
    reads it. Reading a tensor copies the state to the host: for an engine that cannot read the slot.

    Args:
        slots: where the slot returns to.
        words: the slot.
    """

    __slots__ = ("_slots", "words")

    def __init__(self, slots: "StateSlots", words: Tensor) -> None:
        self._slots, self.words = slots, words

    def is_in(self, slots: "StateSlots") -> bool:
        """Whether the slot is one of `slots`."""
        return self._slots is slots

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A tensor of the state, on the host."""
        return self._slots.layout.read(self.words.cpu().numpy())[name]

    def __iter__(self) -> Iterator[str]:
        """Names of the tensors."""
        return iter((PROFILE, SLOT_ITEMS, SLOT_SUMS))

    def __len__(self) -> int:
        """Number of tensors."""
        return 3

    def __del__(self) -> None:
        self._slots.give_back(self.words)


class StateSlots:
    """Slots of one size, allocated in chunks as they are needed. Several threads may use it.

    Args:
        sizes: of the model.
        device: "cuda" or "cpu".

    Attributes:
        layout: of a state in a slot.
        slot_bytes: size of a slot.
        num_slots: slots that are allocated, used or free.
    """

    def __init__(self, sizes: Sizes, device: str) -> None:
        self.layout = StateLayout(sizes)
        self.slot_bytes = self.layout.words * WORD_BYTES
        self.num_slots = 0
        self._device = device
        self._is_cuda = device.startswith("cuda")
        self._free: deque[Tensor] = (
            deque()
        )  # its operations are atomic: `give_back` may come from any thread
        self._lock = threading.Lock()
        self._staged = torch.zeros(self.layout.words, dtype=torch.int32, pin_memory=self._is_cuda)
        self._stream = torch.cuda.Stream(device) if self._is_cuda else None  # type: ignore[no-untyped-call]

    @property
    def num_free(self) -> int:
        """Slots that hold no state."""
        return len(self._free)

    def write(self, state: State) -> DeviceState:
        """Copy a state into a free slot, and wait until it is there.

        Raises:
            ScoreError: the state cannot be scored.
            RuntimeError: the device has no memory left.
        """
        with self._lock:
            self.layout.write(state, self._staged.numpy())
            slot = DeviceState(self, self._take())
            if self._stream is None:
                slot.words.copy_(self._staged)
            else:
                with torch.cuda.stream(self._stream):
                    slot.words.copy_(self._staged, non_blocking=True)
                self._stream.synchronize()
            return slot

    def give_back(self, words: Tensor) -> None:
        """Free a slot."""
        self._free.append(words)

    def _take(self) -> Tensor:
        try:
            return self._free.popleft()
        except IndexError:
            chunk = torch.zeros(
                CHUNK_SLOTS, self.layout.words, dtype=torch.int32, device=self._device
            )
            self.num_slots += CHUNK_SLOTS
            self._free.extend(chunk[1:])
            return chunk[0]
