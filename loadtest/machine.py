"""What a results page says of the machine and the code."""

import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


VECTOR_UNITS = {"avx2": "AVX2", "avx512f": "AVX-512", "amx_tile": "AMX"}
"""Flag of `/proc/cpuinfo` -> instruction set, in ascending order of its speed."""


def describe_machine() -> str:
    """Cores, processor, system and Python, for a results page."""
    return f"{os.cpu_count()} cores of {describe_cpu()}, {platform.system()}, Python {platform.python_version()}"


def describe_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the processor with what tells it from others of the same name: family, model, widest vector unit."""
    if not cpuinfo.exists():
        return platform.machine()
    lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
    first: dict[str, str] = {}
    for key, _, value in lines:
        first.setdefault(key.strip(), value.strip())
    flags = first.get("flags", "").split()
    numbers = [
        f"{key.removeprefix('cpu ')} {first[key]}"
        for key in ("cpu family", "model")
        if key in first
    ]
    units = [name for flag, name in VECTOR_UNITS.items() if flag in flags]
    details = ", ".join(numbers + units[-1:])
    name = first.get("model name", platform.machine())
    return f"{name} ({details})" if details else name


def commit() -> str:
    """The commit that is checked out; "-dirty" at its end if files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown commit"
