from loadtest.peers.environments import version_of
from loadtest.peers.paths import HERE
from loadtest.peers.servers import ABSORBS, PEERS
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
