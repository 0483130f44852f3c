"""No instruction set reads or writes beyond an array, under the address and undefined-behaviour sanitizers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.native.compile import CompileError, compile_library, compiler
from service.native.library import open_library
from service.runtime.engines.native.engine import supported_isas

FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
ROOT = Path(__file__).parents[5]


def runtime(name: str) -> Path | None:
    """Path of a sanitizer's own library; None if the compiler has none."""
    command = [*compiler(), f"-print-file-name={name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path = Path(done.stdout.strip())
    return path if path.is_absolute() and path.exists() else None


def run(library: Path, module: str) -> subprocess.CompletedProcess[str]:
    preloaded = [str(path) for name in ("libasan.so", "libubsan.so") if (path := runtime(name))]
    if not preloaded:
        pytest.skip("the compiler has no shared library of the address sanitizer")
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(preloaded),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, "-m", module, str(library)],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return compile_library(tmp_path_factory.mktemp("sanitized") / "library.so", FLAGS)
    except CompileError as error:
        pytest.skip(f"the compiler has no sanitizers: {str(error)[-200:]}")


def test_the_kernel_stays_within_its_arrays(sanitized: Path, native_library: Path):
    done = run(sanitized, "tests.service.runtime.engines.native.sanitized")
    assert (done.returncode, done.stderr[-3000:]) == (0, "")
    assert done.stdout.split() == supported_isas(open_library(native_library))


def test_the_sanitizer_sees_a_read_beyond_an_array(sanitized: Path):
    done = run(sanitized, "tests.service.runtime.engines.native.beyond")
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
