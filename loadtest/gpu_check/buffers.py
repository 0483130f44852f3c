"""Inputs of one shape at fixed addresses: one block of pinned host memory, one of device memory, one copy."""

import numpy as np
import torch
from numpy.typing import NDArray

from loadtest.gpu_check.inputs import REQUEST, Feed, request_of

ALIGNMENT_BYTES = 256


class Block:
    """Arrays side by side in one block of host memory and one of device memory.

    Attributes:
        on_device: name -> view of the device's block.
        num_bytes: size of the block.
    """

    def __init__(self, feed: Feed, device: str) -> None:
        """Allocate for arrays of the shapes in `feed`, and copy them.

        Args:
            feed: arrays by name.
            device: "cuda" or "cpu".
        """
        starts, end = {}, 0
        for name, values in feed.items():
            starts[name] = end
            end += -(-values.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self.num_bytes = end
        self._host = torch.zeros(end, dtype=torch.uint8, pin_memory=device == "cuda")
        self._device = torch.zeros(end, dtype=torch.uint8, device=device)
        host_bytes = self._host.numpy()
        self._on_host: dict[str, NDArray[np.generic]] = {}
        self.on_device: dict[str, torch.Tensor] = {}
        for name, start in starts.items():
            values = feed[name]
            part = slice(start, start + values.nbytes)
            self._on_host[name] = host_bytes[part].view(values.dtype).reshape(values.shape)
            dtype = torch.from_numpy(np.zeros(0, values.dtype)).dtype
            self.on_device[name] = self._device[part].view(dtype).view(values.shape)
        self.put(feed)

    def put(self, feed: Feed) -> None:
        """Write to the pinned block and start the copy to the device on the current stream."""
        for name, view in self._on_host.items():
            view[...] = feed[name]
        self._device.copy_(self._host, non_blocking=True)


class Buffers:
    """A score graph's inputs and its logits at fixed addresses.

    Attributes:
        inputs: name -> tensor on the device.
        logits: tensor on the device, [B, C].
        state: the users' states; a request of a user whose state is on the device does not copy them.
        request: the inputs that every request brings.
    """

    def __init__(self, feed: Feed, device: str) -> None:
        """Allocate for the shapes of `feed`, and copy it.

        Args:
            feed: inputs of the score graph.
            device: "cuda" or "cpu".
        """
        self.device = device
        self.state = Block({n: v for n, v in feed.items() if n not in REQUEST}, device)
        self.request = Block(request_of(feed), device)
        self.inputs = {**self.state.on_device, **self.request.on_device}
        shape = feed["items"].shape
        self.logits = torch.zeros(shape, dtype=torch.float32, device=device)
        self._fetched = torch.zeros(shape, dtype=torch.float32, pin_memory=device == "cuda")

    def fetch(self) -> NDArray[np.float32]:
        """Wait for all work on the current stream; return the logits, [B, C]."""
        self._fetched.copy_(self.logits, non_blocking=True)
        if self.device == "cuda":
            torch.cuda.current_stream().synchronize()
        logits: NDArray[np.float32] = self._fetched.numpy().copy()
        return logits
