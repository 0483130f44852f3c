"""`make sbom`: the bill of materials names what is installed, by the versions that are pinned."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(900)  # it installs the tool, with hashes, into an environment of its own
def test_the_bill_of_materials_names_what_is_installed(tmp_path: Path) -> None:
    out = tmp_path / "sbom.json"
    variables = [f"TOOLS={tmp_path / 'tools'}", f"SBOM={out}", f"PY={sys.executable}"]
    done = subprocess.run(
        ["make", "--old-file=setup", "sbom", *variables],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    bill = json.loads(out.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "absorb"
    named = {one["name"].lower(): one["version"] for one in bill["components"]}
    assert len(named) > 100
    for package in ("torch", "redis", "onnxruntime", "fastapi"):
        assert named[package] == version(package)
    assert "cyclonedx-bom" not in named
    assert str(ROOT) not in out.read_text()
