"""A whole request is timed in two checkouts, here the same one twice, and its parts in this one."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import request_path
from loadtest.machine import ROOT
from models.contract.embedded_cache import start_server, stop_server
from tests.service.toy import Toy
from tests.service.world import World


@pytest.fixture
def cache() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    yield folder
    stop_server(folder)
    shutil.rmtree(folder)


def test_requests_of_both_checkouts_and_their_parts_are_timed(
    cache: Path, native_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(f"unix://{start_server(cache)}", tmp_path / "artifacts")
    world.publish(Toy(candidate_names=("display",)))
    monkeypatch.setenv("ABSORB_CACHE_URL", world.url)
    monkeypatch.setenv("ABSORB_ARTIFACT_DIR", str(world.artifacts))
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(native_library))
    monkeypatch.setattr(request_path, "SIZES", (5, 20))
    monkeypatch.setattr(request_path, "ROUNDS", 2)
    out = tmp_path / "new" / "table.md"
    monkeypatch.setattr("sys.argv", ["request_path", "--before", str(ROOT), "--out", str(out)])

    request_path.main()

    rows = [line.strip("| ").split(" | ") for line in out.read_text().splitlines()]
    whole = [row for row in rows if len(row) == 4 and row[0].isdigit()]
    assert [row[0] for row in whole] == ["5", "5", "20", "20"]
    assert all(0 < float(row[2]) <= 1.5 * float(row[3]) for row in whole)
    parts = [row for row in rows if len(row) == 3 and row[0].isdigit()]
    assert {row[1] for row in parts} >= {"body, by C", "body, by pydantic", "ids to rows"}
    assert len(parts) == 12
