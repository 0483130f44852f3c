"""What a results page says of the machine and the code."""

import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def describe_machine() -> str:
    """Cores, processor, system and Python, for a results page."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((s.partition(": ")[2] for s in lines if s.startswith("model name")), model)
    return f"{os.cpu_count()} cores of {model}, {platform.system()}, Python {platform.python_version()}"


def commit() -> str:
    """The commit that is checked out; "-dirty" at its end if files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown commit"
