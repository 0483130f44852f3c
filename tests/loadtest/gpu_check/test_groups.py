"""The processes of the check: what a group leaves, and what it must not leave."""

import tempfile
from pathlib import Path

import psutil
import pytest

from loadtest.gpu_check import groups
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.results import read_results
from models.contract.embedded_cache import start_server


def test_a_group_runs_in_its_own_process_with_the_same_options(options: Options) -> None:
    groups.run_group(("parity",), options, limit_s=120)

    part = read_results(options.out)["parts"]["parity"]
    rows = part["tables"]["differences from onnxruntime on the CPU"]
    assert part["status"] == "ran"
    assert rows[0]["runs"] == options.effort.users + 1 + 7  # joined users, edge cases


def test_a_group_that_is_cut_short_leaves_its_status_and_no_cache_server(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: str(scratch))
    start_server(scratch)  # as a group that is killed would leave it
    server = psutil.Process(int((scratch / "valkey.pid").read_text()))

    groups.run_group(("service",), options, limit_s=0.01)

    assert read_results(options.out)["parts"]["service"]["status"] == "cut short"
    # A process whose parent does not collect its status remains as a zombie.
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert not scratch.exists()
