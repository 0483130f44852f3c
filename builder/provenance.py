"""Where a result comes from: the version of this code, and the machine that it ran on."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from models.contract.version import checkout, package_version

REVISION_DIGITS = 12


def code_revision() -> str:
    """The project's version; run from a clone of this project, the Git commit too: "0.2.0+g1a2b3c4d5e6f".

    A package that is installed inside another project's repository reports its version only: that repository's commit
    says nothing about this code.
    """
    root = checkout()
    commit = None if root is None else _commit(root)
    return package_version() if commit is None else f"{package_version()}+g{commit}"


def _commit(root: Path) -> str | None:
    """First digits of the commit that is checked out; None where `root` is not the top of a Git repository."""
    top, head = _git(root, "rev-parse", "--show-toplevel"), _git(root, "rev-parse", "HEAD")
    if not top or not head or Path(top).resolve() != root.resolve():
        return None
    return head[:REVISION_DIGITS]


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; empty where it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def describe_machine(command: str) -> dict[str, str]:
    """What a reader needs to judge measured times: the command, the machine, the code and the date."""
    import onnxruntime as ort  # here: training on a GPU machine asks for the revision only

    return {
        "command": command,
        "cpu": _cpu_name(),
        "cores": str(os.cpu_count()),
        "load average at start": f"{os.getloadavg()[0]:.1f}",
        "runtime": f"onnxruntime {ort.__version__}, CPUExecutionProvider",
        "revision": code_revision(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
