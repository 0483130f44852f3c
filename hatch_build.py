"""Build hook of the wheel: compiles `service/native/*.c`, and tags the wheel with the platform of the library.

Without a C compiler, or where it fails, the wheel has no library and runs on every platform, more slowly.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

NATIVE = Path("service/native")
STRIPPED = ("-s",) if sys.platform == "linux" else ()
"""Symbols and debug information are most of what ziglang writes."""


class NativeLibraryHook(BuildHookInterface[Any]):
    """Adds the library to wheels. An editable installation takes the one in place, which `make setup` compiles."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into a temporary folder and add the library to the files of the wheel."""
        if version == "editable":
            return
        compiling = _load(Path(self.root) / NATIVE / "compile.py")
        self._folder = tempfile.TemporaryDirectory()
        library = Path(self._folder.name) / compiling.NAME
        try:
            compiling.compile_library(library, STRIPPED)
        except compiling.CompileError as error:
            self.app.display_warning(f"the wheel has no native library: {error}")
            return
        build_data["force_include"][str(library)] = str(NATIVE / compiling.NAME)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform(compiling)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder."""
        if version != "editable":
            self._folder.cleanup()


def _load(path: Path) -> Any:
    """Load a module by its path: the package is not installed while it is built."""
    spec = importlib.util.spec_from_file_location("absorb_native_compile", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"build: {path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform(compiling: Any) -> str:
    """Platform of the library: ziglang builds for an old glibc, a system's compiler for the system's own."""
    platforms = [tag.platform for tag in sys_tags()]
    platform = next((one for one in platforms if one.startswith("manylinux_")), platforms[0])
    if platform.startswith("manylinux_") and "ziglang" in compiling.compiler():
        machine = platform.split("_", 3)[3]
        return f"manylinux_{compiling.GLIBC.replace('.', '_')}_{machine}"
    return platform
