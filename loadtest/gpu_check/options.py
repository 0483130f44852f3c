"""What the command line asks of a part."""

from dataclasses import dataclass
from pathlib import Path

from loadtest.gpu_check.inputs import Inputs, read_inputs


@dataclass(frozen=True)
class Options:
    """Where things are and how much to do.

    Attributes:
        artifact: its folder.
        records: see `read_inputs`.
        out: folder of the results.
        seconds: one measurement may take.
        serve_seconds: one cell of the closed loop takes.
        users: compared with the CPU.
        slates: numbers of candidates that are timed.
        joined: users in one run, beside one.
        lengths: of histories.
        device: "cuda", or "cpu" where torch sees none.
    """

    artifact: Path
    records: Path
    out: Path
    seconds: float
    serve_seconds: float
    users: int
    slates: tuple[int, ...]
    joined: int
    lengths: tuple[int, ...]
    device: str

    def inputs(self) -> Inputs:
        """Artifact and records."""
        return read_inputs(self.artifact, self.records)
