"""Where a user would start the demo."""

from pathlib import Path

import pytest

from tests.service.world import World


@pytest.fixture
def in_a_folder(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The folder and the environment in which a user would start the demo."""
    monkeypatch.setenv("ABSORB_CACHE_URL", world.url)
    monkeypatch.setenv("ABSORB_ARTIFACT_DIR", str(world.artifacts))
    monkeypatch.setenv("ABSORB_CACHE_TIMEOUT_MS", "2000")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return world
