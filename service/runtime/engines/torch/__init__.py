"""The engine that scores item slots on a GPU, in three Triton kernels. The only part of the service with torch.

`fold.py` makes weights of a plan, `kernels.py` holds the kernels, `eager.py` computes the same in plain torch,
`buffers.py` and `runs.py` launch either, `slots.py` keeps users' states in device memory, `engine.py` joins them.
"""

import importlib.util

import torch

from models.contract.artifact import Artifact
from service.runtime.engines.engine import UnfitError
from service.runtime.engines.torch.engine import TorchEngine
from service.runtime.engines.torch.fold import fold

OLDEST = (8, 0)
"""Least compute capability: products in three TF32 terms need tensor cores that have TF32."""


def open_engine(artifact: Artifact, num_threads: int) -> TorchEngine:
    """Open the engine for one artifact: kernels on a GPU; in plain torch on the CPU, where no device is seen.

    Args:
        artifact: verified.
        num_threads: not used: torch's own setting applies on a CPU.

    Raises:
        UnfitError: the artifact has no plan, or one that the kernels do not fit; the GPU is too old; Triton is absent.
        ArtifactError: the plan was changed or removed, is torn, or is not the one of this artifact.
        RuntimeError: the device failed.
    """
    plan = artifact.plan()
    if plan is None:
        model = artifact.manifest.model
        raise UnfitError("no plan", f"plan: the artifact of model {model!r} has none")
    is_cuda = torch.cuda.is_available()
    if is_cuda:
        _check_device()
    return TorchEngine(*fold(plan), "cuda:0" if is_cuda else "cpu", is_eager=not is_cuda)


def _check_device() -> None:
    """Raise UnfitError if the kernels cannot run on the first device."""
    found = torch.cuda.get_device_capability(0)
    if found < OLDEST:
        raise UnfitError("no device", f"compute capability: got {found}, expected {OLDEST} or more")
    if importlib.util.find_spec("triton") is None:
        raise UnfitError("not installed", "triton: not installed, expected it beside torch")
