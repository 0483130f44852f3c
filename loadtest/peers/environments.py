"""The virtual environment of each peer, `var/peers/<name>/venv`, made from its requirements."""

import hashlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from loadtest.peers.paths import HERE, WORK
from loadtest.peers.servers import Server

SYSTEM_PYTHON = "/usr/bin/python3"
INSTALL_LIMIT_S = 900
STAMP = ".installed"


class PeerError(Exception):
    """A peer cannot be installed, started or measured. The other peers are measured anyway."""


def bin_of(server: Server) -> Path:
    """Folder of the server's interpreter."""
    if server.package is None:
        return Path(sys.executable).parent
    return WORK / server.name / "venv/bin"


def install(server: Server) -> None:
    """Make the environment unless one of the same requirements exists.

    Raises:
        PeerError: the environment cannot be made.
    """
    if server.package is None:
        return
    requirements = HERE / server.name / "requirements.txt"
    stamp = WORK / server.name / STAMP
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    python = SYSTEM_PYTHON if server.on_system_python else _base_python()
    _run([python, "-m", "venv", "--clear", str(WORK / server.name / "venv")])
    pip = [str(bin_of(server) / "python"), "-m", "pip", "install", "--quiet"]
    _run([*pip, "--disable-pip-version-check", "--requirement", str(requirements)])
    stamp.write_text(digest)


def version_of(server: Server) -> str:
    """Name and version of the peer's package from its requirements; for this repository, ONNX Runtime's."""
    if server.package is None:
        return f"onnxruntime {version('onnxruntime')}"
    lines = (HERE / server.name / "requirements.txt").read_text().splitlines()
    versions = [line.partition("==")[2] for line in lines if _names(line, server.package)]
    return f"{server.package} {versions[0]}" if versions else server.package


def _names(line: str, package: str) -> bool:
    return line.partition("==")[0].partition("[")[0].lower().replace("_", "-") == package


def _base_python() -> str:
    """The interpreter from which this environment was made."""
    return f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALL_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"install: {error}") from error
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise PeerError(f"install: {' '.join(command[:4])} … ended with {done.returncode}: {last}")
