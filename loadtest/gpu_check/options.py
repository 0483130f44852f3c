"""Settings of the check, from the command line."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.gpu_check.inputs import Inputs, read_inputs
from loadtest.record_file import split_records
from models.contract.record import record_artifact

RUNS = Path("var/runs")
ARTIFACTS = Path("var/artifacts")


@dataclass(frozen=True)
class Effort:
    """Amount of work.

    Attributes:
        seconds: time limit of one measurement.
        serve_seconds: duration of one cell of the closed loop.
        users: number of users whose scores are compared with the CPU's.
        slates: numbers of candidates that are timed.
        joined: number of users in a joined run; one user is measured as well.
        lengths: history lengths.
    """

    seconds: float
    serve_seconds: float
    users: int
    slates: tuple[int, ...]
    joined: int
    lengths: tuple[int, ...]


FULL = Effort(
    seconds=0.2,
    serve_seconds=3.0,
    users=100,
    slates=(256, 512, 1024, 2048, 4096),
    joined=16,
    lengths=(100, 1000, 2000, 10_000, 100_000),
)
QUICK = Effort(seconds=0.01, serve_seconds=0.1, users=4, slates=(16,), joined=2, lengths=(30, 60))


@dataclass(frozen=True)
class Options:
    """Paths, and the amount of work.

    Attributes:
        artifact: folder of an artifact.
        records: file of records that the artifact made (`read_inputs`).
        out: folder of the results.
        scratch: folder for the cache of the service part; None: a temporary one, removed at the end of the part.
        effort: amount of work.
        device: "cuda", or "cpu" if torch sees no CUDA device.
    """

    artifact: Path
    records: Path
    out: Path
    scratch: Path | None
    effort: Effort
    device: str

    def inputs(self) -> Inputs:
        """Read the artifact and the records."""
        return read_inputs(self.artifact, self.records)

    @contextmanager
    def cache_folder(self) -> Iterator[Path]:
        """A folder for an embedded cache. Its path is short: a unix socket's path is limited."""
        if self.scratch is not None:
            yield self.scratch
            return
        with tempfile.TemporaryDirectory(prefix="absorb", dir="/tmp") as folder:
            yield Path(folder)


def newest_records() -> Path:
    """Records of the newest run of the builder under `var/runs`.

    Raises:
        ValueError: there are none.
    """
    files = sorted(RUNS.glob("*/records.bin"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise ValueError(f"got no records.bin under {RUNS}, expected one: run `make demo` first")
    return files[-1]


def newest_artifact(records: Path) -> Path:
    """Folder under `var/artifacts` of the artifact that made some records.

    Raises:
        ValueError: the file holds no record.
    """
    artifact_id = next((record_artifact(raw) for raw in split_records(records)), None)
    if artifact_id is None:
        raise ValueError(f"got no record in {records}, expected at least one")
    return ARTIFACTS / artifact_id
