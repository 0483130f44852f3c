"""Inputs and logits of one bucket at fixed addresses: a block of host memory, a block of device memory, one copy each.

Candidates lie in tiles of `TILE`. A tile belongs to one user, so the slates of several users need no padding to the
longest: each is padded to whole tiles, with the row `PADDING`, and a candidate's logit depends on no other candidate.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.contract.schema import PADDING
from service.runtime.engines.engine import EngineSlate, Logits
from service.runtime.engines.torch.weights import Sizes

TILE = 64
"""Candidates of a tile."""
USERS = 32
"""Most slates of one launch."""
NO_USER = -1
ALIGNMENT_WORDS = 64


class Buffers:
    """Inputs and logits of up to `tiles` tiles.

    Attributes:
        tiles: size of the bucket.
        states: address of each user's state, [USERS], int64; 0: no user.
        users: user of each tile, [tiles], int32.
        items: catalogue rows, [tiles · TILE], int32.
        fields: ids of the candidate fields, [tiles · TILE, fields], int32.
        recent: catalogue rows of the latest items, [USERS, N], int32.
        context: ids of the context fields, [USERS, context], int32.
        logits: [tiles · TILE], float32.
    """

    def __init__(self, tiles: int, sizes: Sizes, device: str) -> None:
        """Allocate.

        Args:
            tiles: size of the bucket.
            sizes: of the model.
            device: "cuda" or "cpu".
        """
        self.tiles = tiles
        shapes = {
            "states": (2 * USERS,),
            "users": (tiles,),
            "items": (tiles * TILE,),
            "fields": (tiles * TILE, sizes.fields),
            "recent": (USERS, sizes.recent),
            "context": (USERS, sizes.context),
        }
        words, starts = 0, {}
        for name, shape in shapes.items():
            starts[name] = words
            words += -(-int(np.prod(shape)) // ALIGNMENT_WORDS) * ALIGNMENT_WORDS
        is_cuda = device.startswith("cuda")
        self._host = torch.zeros(words, dtype=torch.int32, pin_memory=is_cuda)
        self._device = torch.zeros(words, dtype=torch.int32, device=device)
        on_host, on_device = {}, {}
        for name, shape in shapes.items():
            part = slice(starts[name], starts[name] + int(np.prod(shape)))
            on_host[name] = self._host.numpy()[part].reshape(shape)
            on_device[name] = self._device[part].view(shape)
        self._addresses: NDArray[np.int64] = on_host.pop("states").view(np.int64)
        self._arrays = on_host
        self.states = on_device["states"].view(torch.int64)
        self.users, self.items, self.fields = (on_device[n] for n in ("users", "items", "fields"))
        self.recent, self.context = on_device["recent"], on_device["context"]
        self.logits = torch.zeros(tiles * TILE, device=device)
        self._fetched = torch.zeros(tiles * TILE, pin_memory=is_cuda)

    def put(self, slates: Sequence[EngineSlate], addresses: Sequence[int]) -> None:
        """Write slates to the host's block; what earlier slates left there belongs to no user.

        Args:
            slates: at most `USERS`, which need at most `tiles` tiles.
            addresses: of the users' states.
        """
        arrays = self._arrays
        arrays["users"][:] = NO_USER
        self._addresses[:] = 0
        self._addresses[: len(addresses)] = addresses
        tile = 0
        for user, slate in enumerate(slates):
            start, length = tile * TILE, len(slate.items)
            tiles = tiles_of(length)
            arrays["users"][tile : tile + tiles] = user
            tile += tiles
            arrays["items"][start : start + length] = slate.items
            arrays["items"][start + length : tile * TILE] = PADDING
            arrays["fields"][start : start + length] = slate.fields
            arrays["fields"][start + length : tile * TILE] = PADDING
            arrays["context"][user] = slate.context
            self._put_recent(user, slate.recent)

    def _put_recent(self, user: int, rows: NDArray[np.int64]) -> None:
        """The order of the latest items does not matter, and padding has no weight."""
        recent = self._arrays["recent"][user]
        latest = rows[max(len(rows) - len(recent), 0) :]
        recent[: len(latest)] = latest
        recent[len(latest) :] = PADDING

    def upload(self) -> None:
        """Start the copy to the device."""
        self._device.copy_(self._host, non_blocking=True)

    def download(self) -> None:
        """Start the copy of the logits to the host."""
        self._fetched.copy_(self.logits, non_blocking=True)

    def fetched(self, slates: Sequence[EngineSlate]) -> list[Logits]:
        """Logits of each slate, after the download has ended."""
        every: list[Logits] = []
        start = 0
        for slate in slates:
            length = len(slate.items)
            every.append(self._fetched[start : start + length].numpy().copy())
            start += tiles_of(length) * TILE
        return every


def tiles_of(candidates: int) -> int:
    """Tiles that a slate needs."""
    return -(-candidates // TILE)
