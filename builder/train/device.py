"""Where training runs."""

from typing import Literal

import torch

from builder.errors import StepError

Device = Literal["auto", "cpu", "cuda"]


def find_device(wanted: Device) -> torch.device:
    """The device of a training: "auto" is a GPU where torch finds one, else the processor.

    Raises:
        StepError: "cuda" is wanted, and torch finds no GPU.
    """
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise StepError("train.device: got 'cuda', expected 'cpu' or 'auto': torch finds no GPU")
    return torch.device("cuda" if has_gpu and wanted != "cpu" else "cpu")
