"""`make sbom`: the bill of materials names what is installed, by the versions that are pinned."""

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.test_constraints import canonical

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
    named = {canonical(one["name"]): one["version"] for one in bill["components"]}
    installed = {canonical(one.metadata["Name"]): one.version for one in distributions()}
    assert installed.pop("absorb") == bill["metadata"]["component"]["version"]
    assert named == installed
    assert str(ROOT) not in out.read_text()
