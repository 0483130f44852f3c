"""The shared library is compiled, opened, and refused with a reason when it is not the expected one."""

import importlib.util
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from service.native.compile import CompileError, compile_library, compiler, seal
from service.native.library import (
    ABI,
    FOLDER,
    NativeLibraryError,
    NativeLibraryMissingError,
    open_library,
)


def test_the_library_is_opened_once_and_has_the_version(native_library: Path):
    library = open_library(native_library)
    assert library.handle.absorb_native_abi() == ABI
    assert open_library(native_library) is library


def test_the_environment_names_another_library(
    native_library: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(native_library))
    assert open_library().path == native_library


def test_header_and_binding_name_the_same_version():
    assert f"#define ABSORB_NATIVE_ABI {ABI}\n" in (FOLDER / "native.h").read_text()


def test_a_missing_library_is_named(tmp_path: Path):
    with pytest.raises(NativeLibraryMissingError, match="does not exist; python -m service"):
        open_library(tmp_path / "absent.so")


@pytest.mark.parametrize("raw", [b"", b"\x7fELF", b"not a library" * 100])
def test_what_is_no_library_is_refused(tmp_path: Path, raw: bytes):
    path = tmp_path / "torn.so"
    path.write_bytes(raw)
    with pytest.raises(NativeLibraryError, match="is torn"):
        open_library(path)
    seal(path)
    with pytest.raises(NativeLibraryError, match="does not load"):
        open_library(path)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_a_torn_library_is_refused_where_the_loader_would_crash(
    native_library: Path, tmp_path: Path, share: float
):
    """The loader maps the file, and touching what is missing kills the process (SIGBUS)."""
    raw = native_library.read_bytes()
    path = tmp_path / "torn.so"
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(NativeLibraryError, match=r"torn\.so is torn"):
        open_library(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9999])
def test_a_library_with_a_flipped_bit_is_refused(
    native_library: Path, tmp_path: Path, share: float
):
    raw = bytearray(native_library.read_bytes())
    raw[int(share * len(raw))] ^= 1
    path = tmp_path / "flipped.so"
    path.write_bytes(raw)
    with pytest.raises(NativeLibraryError, match=r"flipped\.so is torn"):
        open_library(path)


def test_a_sealed_library_that_grew_is_refused(native_library: Path, tmp_path: Path):
    path = tmp_path / "grown.so"
    path.write_bytes(native_library.read_bytes() + b"\0")
    with pytest.raises(NativeLibraryError, match="is torn"):
        open_library(path)


def test_a_library_for_another_cpu_is_refused(native_library: Path, tmp_path: Path):
    raw = bytearray(native_library.read_bytes())
    raw[18:20] = (8).to_bytes(2, "little")  # e_machine: MIPS
    path = tmp_path / "mips.so"
    path.write_bytes(raw)
    seal(path)
    with pytest.raises(NativeLibraryError, match="does not load"):
        open_library(path)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"int absorb_native_abi(void) {{ return {ABI + 1}; }}", f"version {ABI + 1}, expected"),
        ("int other(void) { return 0; }", "has no absorb_native_abi"),
    ],
)
def test_another_version_is_refused(tmp_path: Path, source: str, expected: str):
    (tmp_path / "other.c").write_text(source)
    path = tmp_path / "other.so"
    command = [*compiler(), "-shared", "-fPIC", str(tmp_path / "other.c"), "-o", str(path)]
    subprocess.run(command, check=True)
    seal(path)
    with pytest.raises(NativeLibraryError, match=expected):
        open_library(path)


def test_a_failing_compiler_is_shown_and_leaves_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(CompileError, match="failed"):
        compile_library(tmp_path / "a.so", ["-fno-such-flag"])
    monkeypatch.setenv("CC", "/no/such/compiler")
    with pytest.raises(CompileError, match="/no/such/compiler"):
        compile_library(tmp_path / "a.so")
    assert list(tmp_path.iterdir()) == []


def cpu_flags() -> set[str]:
    """Flags of the CPU as Linux lists them."""
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not cpuinfo.exists():
        pytest.skip("only Linux on x86-64 lists them")
    line = next(line for line in cpuinfo.read_text().splitlines() if line.startswith("flags"))
    return set(line.partition(":")[2].split())


def supported(library: Path) -> list[bool]:
    handle = open_library(library).handle
    return [bool(handle.absorb_isa_supported(isa)) for isa in range(-1, 4)]


def expected_support() -> list[bool]:
    flags = cpu_flags()
    avx2 = {"avx2", "fma"} <= flags
    avx512 = avx2 and {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags
    return [False, True, avx2, avx512, False]


def test_the_library_knows_the_cpus_instruction_sets(native_library: Path):
    assert supported(native_library) == expected_support()


def test_ziglang_compiles_a_library_that_knows_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the package ziglang is not installed")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert supported(compile_library(tmp_path / "zig.so")) == expected_support()
