"""Inputs of one shape at fixed addresses: on the device, and pinned on the host, each one block and one copy."""

import numpy as np
import torch

from loadtest.gpu_check.inputs import REQUEST, Feed

ALIGNMENT = 256


class Block:
    """Some arrays side by side, on both sides of the bus.

    Attributes:
        on_device: name -> view of the device's block.
        num_bytes: of the block.
    """

    def __init__(self, feed: Feed, device: str) -> None:
        """Allocate for arrays like those of `feed`, and copy them."""
        starts, end = {}, 0
        for name, values in feed.items():
            starts[name] = end
            end += -(-values.nbytes // ALIGNMENT) * ALIGNMENT
        self.num_bytes = end
        self._host = torch.zeros(end, dtype=torch.uint8, pin_memory=device == "cuda")
        self._device = torch.zeros(end, dtype=torch.uint8, device=device)
        flat = self._host.numpy()
        self._views = {
            name: flat[start : start + feed[name].nbytes].view(feed[name].dtype).reshape(feed[name].shape)
            for name, start in starts.items()
        }  # fmt: skip
        self.on_device = {
            name: self._device[start : start + feed[name].nbytes]
            .view(torch.from_numpy(np.zeros(0, feed[name].dtype)).dtype)
            .view(feed[name].shape)
            for name, start in starts.items()
        }
        self.put(feed)

    def put(self, feed: Feed) -> None:
        """Write to the pinned block, and begin the copy on the current stream."""
        for name, view in self._views.items():
            view[...] = feed[name]
        self._device.copy_(self._host, non_blocking=True)


class Buffers:
    """A score graph's inputs and its logits at fixed addresses.

    Attributes:
        inputs: name -> tensor on the device.
        logits: on the device, [B, C].
        state: the part that a hit in device memory leaves alone.
        request: the part that every request brings.
    """

    def __init__(self, feed: Feed, device: str) -> None:
        """Allocate and fill."""
        self.device = device
        self.state = Block({n: v for n, v in feed.items() if n not in REQUEST}, device)
        self.request = Block({n: feed[n] for n in REQUEST}, device)
        self.inputs = {**self.state.on_device, **self.request.on_device}
        shape = feed["items"].shape
        self.logits = torch.zeros(shape, dtype=torch.float32, device=device)
        self._fetched = torch.zeros(shape, dtype=torch.float32, pin_memory=device == "cuda")

    def fetch(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """The logits, once everything before is done."""
        self._fetched.copy_(self.logits, non_blocking=True)
        if self.device == "cuda":
            torch.cuda.current_stream().synchronize()
        return self._fetched.numpy().copy()
