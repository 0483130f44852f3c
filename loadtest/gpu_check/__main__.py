"""`python -m loadtest.gpu_check`: the GPU path on the machine at hand, part by part.

    --artifact var/artifacts/<id> --records var/runs/<run>/records.bin --out var/gpu-check

Parts run in groups, each group in a process of its own within a time limit: a part that breaks, or breaks the device's
context, leaves the others. What has ended is in `gpu_check.json`. Without a CUDA device its parts say so.

Exit code 0: every part ran or said why it cannot here; 1: one failed or was cut short.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from loadtest.gpu_check.environment import check_environment
from loadtest.gpu_check.history import check_history
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.parity import check_fused, check_parity
from loadtest.gpu_check.report import NotRunError, Report, read
from loadtest.gpu_check.serving import check_service
from loadtest.gpu_check.speed import (
    check_compiled,
    check_fused_times,
    check_onnx_cpu,
    check_onnx_cuda,
    check_torch,
)

PARTS: dict[str, Callable[[Options, Report], None]] = {
    "environment": check_environment,
    "parity": check_parity,
    "fused": check_fused,
    "fused-times": check_fused_times,
    "service": check_service,
    "torch": check_torch,
    "history": check_history,
    "onnxruntime-cuda": check_onnx_cuda,
    "onnxruntime-cpu": check_onnx_cpu,
    "compiled": check_compiled,
}
GROUPS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("environment",), 60),
    (("parity",), 90),
    (("fused", "fused-times"), 120),
    (("service",), 120),
    (("torch", "history"), 90),
    (("onnxruntime-cuda", "onnxruntime-cpu"), 120),
    (("compiled",), 90),
)
"""What shares a process, and the seconds that it gets at most; the most telling ones first."""
GRACE_S = 5.0
ROOT = Path(__file__).parent.parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    asked = _parser().parse_args(given)
    if asked.only:
        options = _options(asked)
        for part in asked.only:
            _run(part, options)
    else:
        _run_groups(given, time.monotonic() + asked.limit)
    return _conclude(asked)


def _conclude(asked: argparse.Namespace) -> int:
    found = {part: one["status"] for part, one in read(asked.out)["parts"].items()}
    if not asked.only:
        print("\n".join(f"{part}: {status.splitlines()[0]}" for part, status in found.items()))
    return int(any(s.startswith(("failed", "cut short")) for s in found.values()))


def _run(part: str, options: Options) -> None:
    report, start, status = Report(options.out, part), time.monotonic(), "ran"
    try:
        PARTS[part](options, report)
    except NotRunError as reason:
        status = f"not run: {reason}"
    except Exception as error:  # the next part is to run, whatever this one met
        status = f"failed: {type(error).__name__}: {str(error)[:2000]}"
    report.end(status, time.monotonic() - start)


def _run_groups(given: list[str], end: float) -> None:
    for parts, limit in GROUPS:
        left = min(limit, end - time.monotonic())
        only = [word for part in parts for word in ("--only", part)]
        command = [sys.executable, "-m", "loadtest.gpu_check", *given, *only]
        # A session of its own: what a group started ends with it.
        with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
            try:
                process.wait(max(left, GRACE_S))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                print(f"== {', '.join(parts)}: cut short after {left:.0f} s", flush=True)


def _options(asked: argparse.Namespace) -> Options:
    return Options(
        artifact=asked.artifact, records=asked.records, out=asked.out, seconds=asked.seconds,
        serve_seconds=asked.serve_seconds, users=asked.users, slates=tuple(asked.slates),
        joined=asked.joined, lengths=tuple(asked.lengths),
        device="cuda" if torch.cuda.is_available() else "cpu",
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m loadtest.gpu_check", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )  # fmt: skip
    add = parser.add_argument
    add("--artifact", type=Path, required=True, help="folder of an artifact")
    add("--records", type=Path, required=True, help="records that it made; may be gzipped (.gz)")
    add("--out", type=Path, default=Path("var/gpu-check"), help="folder of the results")
    add("--only", action="append", choices=list(PARTS), help="a part, here in this process")
    add("--seconds", type=float, default=0.2, help="of one measurement")
    add("--serve-seconds", type=float, default=3.0, help="of one cell of the closed loop")
    add("--limit", type=float, default=480.0, help="seconds in all; what is left then is cut")
    add("--users", type=int, default=100, help="compared with the CPU")
    add("--joined", type=int, default=16, help="users in one run, beside one")
    add("--slates", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096], help="candidates")
    add("--lengths", type=int, nargs="+", default=[100, 1000, 2000, 10_000, 100_000], help="L")
    return parser


if __name__ == "__main__":
    sys.exit(main())
