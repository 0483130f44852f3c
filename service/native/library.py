"""Finds and opens the shared library that `compile.py` builds."""

import ctypes
import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from service.native.compile import SEAL

ABI = 1
"""Version of the library's functions that this code calls; `ABSORB_NATIVE_ABI` of native.h."""
NAME = "libabsorb_native.so"
FOLDER = Path(__file__).parent
"""Folder of the C sources, and of the library in wheels, images and clones."""
VARIABLE = "ABSORB_NATIVE_LIBRARY"
"""Environment variable with the path of another library, for tests."""


class NativeLibraryError(OSError):
    """The library cannot be used: it is torn, was built for another machine, or is of another version."""


class NativeLibraryMissingError(NativeLibraryError):
    """There is no library. The service runs without it."""


@dataclass(frozen=True)
class Library:
    """The opened library.

    Attributes:
        path: where it lies.
        handle: its functions; each module that calls one sets its `argtypes` and `restype`.
    """

    path: Path
    handle: ctypes.CDLL


def open_library(path: Path | None = None) -> Library:
    """Open the library, once for each path.

    Args:
        path: None: `ABSORB_NATIVE_LIBRARY`, else the library beside the sources.

    Raises:
        NativeLibraryMissingError: there is none.
        NativeLibraryError: it is torn, does not load, or its version is not `ABI`.
    """
    if path is None:
        path = Path(os.environ.get(VARIABLE) or FOLDER / NAME)
    return _open(path)


@lru_cache(maxsize=8)
def _open(path: Path) -> Library:
    if not path.is_file():
        raise NativeLibraryMissingError(
            f"native library: {path} does not exist; python -m service.native.compile builds it"
        )
    _check_seal(path)
    try:
        handle = ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise NativeLibraryError(f"native library: {path} does not load: {error}") from error
    try:
        version = handle.absorb_native_abi
    except AttributeError as error:
        raise NativeLibraryError(
            f"native library: {path} has no absorb_native_abi, expected version {ABI}"
        ) from error
    version.argtypes, version.restype = [], ctypes.c_int32
    if (got := version()) != ABI:
        raise NativeLibraryError(f"native library: {path} has version {got}, expected {ABI}")
    return Library(path, handle)


def _check_seal(path: Path) -> None:
    """Raise NativeLibraryError unless the file is as the compiler left it: the loader notices by a crash."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NativeLibraryError(f"native library: {path} cannot be read: {error}") from error
    content, digest = raw[: -len(SEAL) - 32], raw[-32:]
    if raw[len(content) :] != SEAL + digest or hashlib.sha256(content).digest() != digest:
        raise NativeLibraryError(
            f"native library: {path} is torn: it does not end in the hash of its content"
        )
