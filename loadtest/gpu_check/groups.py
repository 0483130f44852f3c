"""The parts of the check, and the processes that run them: each group of parts in a process with a time limit."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtest.gpu_check.engine_parts import check_engine
from loadtest.gpu_check.history import check_history
from loadtest.gpu_check.machine import check_machine
from loadtest.gpu_check.options import QUICK, Options
from loadtest.gpu_check.parity import check_parity
from loadtest.gpu_check.results import CUT_SHORT, NotRunError, Results, read_results
from loadtest.gpu_check.serving import check_service
from loadtest.gpu_check.speed import (
    check_compiled,
    check_onnx_cpu,
    check_onnx_cuda,
    check_torch,
)
from models.contract.embedded_cache import stop_server

PARTS: dict[str, Callable[[Options, Results], None]] = {
    "machine": check_machine,
    "parity": check_parity,
    "engine": check_engine,
    "service": check_service,
    "torch": check_torch,
    "history": check_history,
    "onnxruntime-cuda": check_onnx_cuda,
    "onnxruntime-cpu": check_onnx_cpu,
    "compiled": check_compiled,
}
GROUPS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("machine",), 60),
    (("parity",), 90),
    (("engine",), 90),
    (("service",), 120),
    (("torch", "history"), 90),
    (("onnxruntime-cuda", "onnxruntime-cpu"), 120),
    (("compiled",), 90),
)
"""Parts that share a process, and the time limit of that process in seconds. The most important groups come first."""
MIN_LIMIT_S = 5.0
ROOT = Path(__file__).parents[2]


def run_part(name: str, options: Options) -> None:
    """Run one part in this process and write its results. A failure of the part is part of its results."""
    results, start, status = Results(options.out, name), time.monotonic(), "ran"
    try:
        PARTS[name](options, results)
    except NotRunError as reason:
        status = f"not run: {reason}"
    except Exception as error:  # the next part runs anyway
        status = f"failed: {type(error).__name__}: {str(error)[:2000]}"
    results.end(status, time.monotonic() - start)


def run_groups(options: Options, limit_s: float) -> None:
    """Run all parts, each group in a process of its own.

    Args:
        options: passed on to the processes.
        limit_s: time limit of all groups together; each group gets at least `MIN_LIMIT_S`.
    """
    end = time.monotonic() + limit_s
    for parts, group_limit_s in GROUPS:
        run_group(parts, options, max(min(group_limit_s, end - time.monotonic()), MIN_LIMIT_S))


def run_group(parts: Sequence[str], options: Options, limit_s: float) -> None:
    """Run some parts in a process. Whatever that process started, the cache server included, has ended on return."""
    for part in parts:  # a process that ends before a part begins leaves this status
        Results(options.out, part)
    scratch = Path(tempfile.mkdtemp(prefix="absorb", dir="/tmp"))
    command = [sys.executable, "-m", "loadtest.gpu_check", *_arguments(parts, options, scratch)]
    start = time.monotonic()
    # In a session of its own, so that the service that a group starts can be killed with it.
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    stop_server(scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    for part in parts:
        if read_results(options.out)["parts"][part]["status"] == CUT_SHORT:
            print(f"== {part}: cut short after {time.monotonic() - start:.0f} s", flush=True)


def _arguments(parts: Sequence[str], options: Options, scratch: Path) -> list[str]:
    paths = {
        "--artifact": options.artifact.resolve(),
        "--records": options.records.resolve(),
        "--out": options.out.resolve(),
        "--scratch": scratch,
    }
    quick = ["--quick"] if options.effort == QUICK else []
    only = [word for part in parts for word in ("--only", part)]
    return ["run", *(str(word) for pair in paths.items() for word in pair), *quick, *only]
