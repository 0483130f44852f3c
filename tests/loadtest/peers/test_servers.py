import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from loadtest.peers.environments import version_of
from loadtest.peers.paths import HERE
from loadtest.peers.servers import ABSORBS, BARES, PEERS
from service.settings import Settings


def test_every_peer_is_pinned_and_can_be_started() -> None:
    for server in PEERS:
        lines = (HERE / server.name / "requirements.txt").read_text().splitlines()
        assert all("==" in line for line in lines if not line.startswith("#")), server.name
        assert version_of(server) != server.package
        assert (HERE / server.name / "server.py").exists()


def test_absorb_is_started_with_existing_settings() -> None:
    known = {f"ABSORB_{name.upper()}" for name in Settings.model_fields}
    assert all(set(server.environment) <= known for server in ABSORBS)


def test_rows_and_titles_are_told_apart() -> None:
    servers = (*ABSORBS, *PEERS)
    names = [route.name for server in servers for route in server.routes]
    assert len({*names, *BARES}) == len(names) + len(BARES)
    assert len({server.title for server in servers}) == len(servers)


def test_every_peer_has_the_packages_that_the_ranker_imports() -> None:
    distributions = packages_distributions()
    needed = {
        _canonical(name) for module in _imports() for name in distributions.get(module, ())
    } - {"absorb"}
    assert needed >= {"numpy", "onnxruntime", "redis", "safetensors"}
    for server in PEERS:
        lines = (HERE / server.name / "requirements.txt").read_text().splitlines()
        pinned = {_canonical(line.partition("==")[0].partition("[")[0]) for line in lines}
        assert needed <= pinned, server.name


def _imports() -> set[str]:
    """Packages that this repository's files import, among those that are loaded with the ranker."""
    code = (
        "import sys, loadtest.peers.ranker\n"
        "for name, module in sys.modules.items():\n"
        "    if name.startswith(('models', 'loadtest')) and module.__file__: print(module.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names: set[str] = set()
    for path in done.stdout.split():
        for node in ast.parse(Path(path).read_text()).body:
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(str(node.module).partition(".")[0])
    return names


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-")
