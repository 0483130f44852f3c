"""A small artifact and records that it made, as the check reads them."""

import gzip
from pathlib import Path

import pytest

from builder.export.precompute import precompute, write_records
from loadtest.gpu_check.options import QUICK, Options
from tests.builds import Builds
from tests.cases import Case

CASE = Case("lrea", "items")


@pytest.fixture
def options(builds: Builds, tmp_path: Path) -> Options:
    """Options of a quick check on the CPU; the records are gzipped."""
    artifact = builds.artifact(CASE)
    plain = tmp_path / "records.bin"
    write_records(precompute(artifact, builds.events, 1), artifact, "fp32", plain)
    packed = tmp_path / "records.bin.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    return Options(artifact.path, packed, tmp_path / "out", None, QUICK, "cpu")
