"""The whole check on the CPU, in this process."""

from typing import Any

import pytest
import torch

from loadtest.gpu_check.__main__ import app
from loadtest.gpu_check.groups import PARTS
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.results import read_results
from tests.loadtest.command import run


def check(options: Options, *parts: str) -> int:
    paths = ["--artifact", options.artifact, "--records", options.records, "--out", options.out]
    only = [word for part in parts for word in ("--only", part)]
    return run(app, "run", "--quick", *paths, *only)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a CUDA device")
def test_without_a_device_every_part_ends_and_says_what_did_not_run(options: Options) -> None:
    assert check(options, *PARTS) == 0

    parts: dict[str, Any] = read_results(options.out)["parts"]
    ran = {name for name, part in parts.items() if part["status"] == "ran"}
    assert ran == {"parity", "service", "history", "onnxruntime-cpu"}
    assert all("no CUDA device" in parts[name]["status"] for name in PARTS.keys() - ran)
    differences = parts["parity"]["tables"]["differences from onnxruntime on the CPU"]
    compared = {row["engine"] for row in differences if row["inputs"] == "all"}
    assert compared == {"engine torch", "torch eager"}
    assert differences[0]["runs"] > 10
    assert all(row["max p"] < 1e-5 for row in differences)
    answers = parts["service"]["tables"]["answers compared with onnxruntime on the CPU"]
    assert [row["engine"] for row in answers] == ["torch on cpu", "onnxruntime on cpu"]
    assert all(row["max p"] < 1e-6 and row["degraded"] == 0 for row in answers)
    loops = parts["service"]["tables"]["closed loop over loopback HTTP, ms"]
    assert all(row["answers/s"] > 0 for row in loops)
    # With 16 at a time on a busy machine, a lookup of the cache may time out.
    assert all(row["degraded"] == 0 for row in loops if row["concurrency"] == 1)
    assert {row["service"] for row in loops if row["device hits"] > 0} == {
        "engine torch, on the CPU"
    }


def test_a_part_that_fails_gives_the_reason_and_the_next_part_runs(options: Options) -> None:
    options.records.with_suffix("").write_bytes(b"")
    empty = Options(options.artifact, options.records.with_suffix(""), *_rest(options))

    assert check(empty, "parity", "machine") == 1

    parts = read_results(options.out)["parts"]
    assert parts["parity"]["status"].startswith("failed: ValueError: records: got no record in")
    assert parts["machine"]["tables"]["machine"]


def _rest(options: Options) -> tuple[Any, ...]:
    return options.out, options.scratch, options.effort, options.device


def test_an_unknown_part_is_wrong_usage(
    options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(options, "speed") == 2
    assert "expected some of: machine, parity" in " ".join(capsys.readouterr().err.split())
