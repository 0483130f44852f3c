"""The native engine: item slots on a CPU, by a fused kernel in C. Without its library or a plan, another engine scores.

`packing.py` lays a plan out for the kernel, `engine.py` calls it.
"""

from models.contract.artifact import Artifact
from service.native.library import NativeLibraryError, NativeLibraryMissingError, open_library
from service.runtime.engines.engine import UnfitError
from service.runtime.engines.native.engine import NativeEngine


def open_engine(artifact: Artifact, num_threads: int) -> NativeEngine:
    """Open the engine for one artifact.

    Args:
        artifact: verified.
        num_threads: not used: a call runs on the thread that makes it.

    Raises:
        UnfitError: the artifact has no plan, or the library is absent or cannot be used here.
        ArtifactError: the plan was changed or removed, is torn, or is not the one of this artifact.
    """
    try:
        library = open_library()
    except NativeLibraryMissingError as error:
        raise UnfitError("no library", str(error)) from error
    except NativeLibraryError as error:
        raise UnfitError("library", str(error)) from error
    plan = artifact.plan()
    if plan is None:
        model = artifact.manifest.model
        raise UnfitError("no plan", f"plan: the artifact of model {model!r} has none")
    try:
        return NativeEngine(plan, library)
    except NativeLibraryError as error:
        raise UnfitError("library", str(error)) from error
