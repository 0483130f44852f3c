"""Compiles the C sources of this folder into one shared library: `python -m service.native.compile [library]`.

The compiler is $CC, `cc`, or the one of the PyPI package `ziglang`, which needs no system compiler. This module imports
nothing but the standard library, so that a build hook can load it from its path.
"""

import argparse
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
NAME = "libabsorb_native.so"
OPTIMISED = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
ALWAYS = ("-std=c11", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi")
FLAGS: dict[str, tuple[str, ...]] = {
    "item_slots_avx2.c": ("-mavx2", "-mfma"),
    "item_slots_avx512.c": (
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mavx2",
        "-mfma",
    ),
}
"""Source -> flags of the instruction set that it is written for; such sources are compiled on x86-64 only."""
GLIBC = "2.28"
"""Oldest glibc that a library built by ziglang runs on, that of manylinux_2_28."""


SEAL = b"absorb-sha256:"
"""Stands behind the library, with the hash of what is before it. Loaders ignore what follows their last section."""


class CompileError(RuntimeError):
    """There is no C compiler, or it failed."""


def compiler() -> list[str]:
    """The command that compiles C.

    Raises:
        CompileError: there is none.
    """
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    if shutil.which("cc"):
        return ["cc"]
    if importlib.util.find_spec("ziglang"):
        target = f"{_machine()}-linux-gnu.{GLIBC}" if sys.platform == "linux" else "native"
        return [sys.executable, "-m", "ziglang", "cc", "-target", target]
    raise CompileError("C compiler: found neither $CC, nor cc, nor the package ziglang")


def sources() -> list[Path]:
    """C sources for this machine."""
    is_x86 = _machine() == "x86_64"
    return [path for path in sorted(FOLDER.glob("*.c")) if is_x86 or path.name not in FLAGS]


def compile_library(library: Path, extra: Sequence[str] = ()) -> Path:
    """Compile all sources and replace `library`, at once or not at all.

    Args:
        library: path of the shared library.
        extra: further flags of compiler and linker, such as `-fsanitize=address`.

    Returns:
        `library`.

    Raises:
        CompileError: there is no compiler, or it failed; the message has what it wrote.
    """
    command = compiler()
    with tempfile.TemporaryDirectory(dir=library.parent) as name:
        folder = Path(name)
        objects = []
        for source in sources():
            objects.append(str(folder / f"{source.stem}.o"))
            flags = (*ALWAYS, *OPTIMISED, *FLAGS.get(source.name, ()), *extra)
            _run([*command, *flags, "-c", str(source), "-o", objects[-1]])
        linked = folder / NAME
        _run([*command, "-shared", *extra, *objects, "-lm", "-o", str(linked)])
        seal(linked)
        linked.replace(library)
    return library


def seal(library: Path) -> None:
    """Append the hash that `library.py` checks: on a torn file, the loader would kill the process."""
    with library.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0, os.SEEK_END)
        file.write(SEAL + digest)


def _machine() -> str:
    """The CPU's family, as compilers call it."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CompileError(f"C compiler: {shlex.join(command)}: {error}") from error
    if done.returncode:
        raise CompileError(f"C compiler: {shlex.join(command)} failed:\n{done.stderr.strip()}")


def main() -> None:
    """Build the library beside the sources, or at the path of the first argument."""
    parser = argparse.ArgumentParser(description="Compile the native library of the service.")
    help_text = "path of the shared library (default: beside the sources)"
    parser.add_argument("library", nargs="?", type=Path, default=FOLDER / NAME, help=help_text)
    library = parser.parse_args().library
    try:
        compile_library(library)
    except CompileError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{library}\n")


if __name__ == "__main__":
    main()
