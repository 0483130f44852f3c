"""Clients whose dependencies are not ours, from venvs of their own: KServe's, and MLServer's batch client."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.v2.targets import Target, interpreter, needs

SLATE = ["i1", "i5", "no such"]
LIMIT_S = 60


def run(*command: "str | Path") -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def request(candidates: list[str]) -> dict[str, Any]:
    inputs = {"user_id": ["ann"], "candidates": candidates}
    return {
        "inputs": [
            {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data}
            for name, data in inputs.items()
        ]
    }


def scores(target: Target, candidates: list[str]) -> Any:
    answer = httpx.post(f"{target.url}/v2/models/toy/infer", json=request(candidates))
    return answer.json()["outputs"][0]["data"]


@needs("kserve")
def test_kserves_rest_client(target: Target) -> None:
    script = Path(__file__).with_name("kserve_client.py")
    said = json.loads(run(interpreter("kserve"), script, target.url).splitlines()[-1])
    expected = pytest.approx(scores(target, SLATE), abs=1e-6)
    for is_binary in (True, False):
        for is_binary_out in (True, False):
            assert said[f"scores {is_binary} {is_binary_out}"] == expected
    assert (said["id"], said["model_ready"], said["no_such_model_ready"]) == ("k7", True, False)
    # Triton's health has no body, which this client reads.
    healthy = {True} if target.is_ours else {True, "JSONDecodeError"}
    assert {said["live"], said["ready"]} <= healthy


@needs("mlserver")
def test_mlservers_batch_client(target: Target, tmp_path: Path) -> None:
    slates = [SLATE, ["i2"], [f"i{n % 40}" for n in range(200)]]
    asked, answered = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    asked.write_text("".join(json.dumps(request(one)) + "\n" for one in slates))
    run(
        interpreter("mlserver").with_name("mlserver"),
        "infer",
        "-u",
        target.host,
        "-m",
        "toy",
        "-i",
        asked,
        "-o",
        answered,
        "--transport",
        "rest",
    )
    answers = [json.loads(line) for line in answered.read_text().splitlines()]
    assert sorted(one["parameters"]["batch_index"] for one in answers) == [0, 1, 2]
    for one in answers:
        at = one["parameters"]["batch_index"]
        assert one["outputs"][0]["data"] == pytest.approx(scores(target, slates[at]), abs=1e-6)
