"""The machine: versions, and the device's limits: bandwidth, arithmetic, a launch, a copy."""

import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from loadtest.gpu_check.options import Options
from loadtest.gpu_check.results import NotRunError, Results
from loadtest.gpu_check.timing import device_us, host_us
from loadtest.gpu_check.torch_engines import captured

PACKAGES = ("torch", "triton", "onnxruntime-gpu", "onnxruntime", "numpy", "fastapi", "uvloop")
MACHINE = "machine"
LIMITS = "device limits"
COPY_BYTES = 1 << 31
MATRIX_SIDE = 8192
STATE_BYTES = 73_000
"""State of the default model: LREA with hash slots, r = 256."""
Limit = dict[str, float | str]


def check_machine(options: Options, results: Results) -> None:
    """Record versions, then measure the device's limits."""
    for name, value in machine().items():
        results.add(MACHINE, {"name": name, "value": value})
    if options.device != "cuda":
        raise NotRunError("no CUDA device: only versions are recorded")
    for name, limit in _limits(options.effort.seconds).items():
        results.add(LIMITS, {"name": name, **limit})


def machine() -> dict[str, str]:
    """Hardware and versions that the figures belong to."""
    facts = {"python": sys.version.split()[0], "platform": platform.system(), "cpu": _cpu()}
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts["device"] = properties.name
        facts["multiprocessors"] = str(properties.multi_processor_count)
        facts["device memory"] = f"{properties.total_memory >> 20} MiB"
        facts["driver"] = _driver()
    return facts


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout.strip()


def _limits(seconds: float) -> dict[str, Limit]:
    source = torch.randint(0, 255, (COPY_BYTES,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    us = device_us(partial(target.copy_, source), seconds)["p50"]
    limits: dict[str, Limit] = {
        "device copy": {"us": us, "rate": 2 * COPY_BYTES / us / 1e6, "unit": "TB/s read + written"}
    }
    del source, target
    for name, dtype, is_tf32 in (
        ("bf16 product", torch.bfloat16, False),
        ("tf32 product", torch.float32, True),
        ("fp32 product", torch.float32, False),
    ):
        a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE, device="cuda", dtype=dtype) for _ in range(2))
        torch.backends.cuda.matmul.allow_tf32 = is_tf32
        us = device_us(partial(torch.matmul, a, b), seconds)["p50"]
        limits[name] = {"us": us, "rate": 2 * MATRIX_SIDE**3 / us / 1e6, "unit": "TFLOP/s"}
    torch.backends.cuda.matmul.allow_tf32 = False
    return limits | _fixed_costs(seconds)


def _fixed_costs(seconds: float) -> dict[str, Limit]:
    number = torch.zeros(1, device="cuda")
    state = torch.zeros(STATE_BYTES, dtype=torch.uint8).pin_memory()
    slot = torch.zeros(STATE_BYTES, dtype=torch.uint8, device="cuda")
    calls: dict[str, Callable[[], object]] = {
        "one kernel": lambda: number.add_(1),
        "graph of one kernel": captured(lambda: number.add_(1)),
        "73 kB host to device": lambda: slot.copy_(state, non_blocking=True),
    }
    costs: dict[str, Limit] = {}
    for name, call in calls.items():
        costs[f"{name}, back to back"] = {"us": device_us(call, seconds)["p50"]}
        costs[f"{name}, waited for"] = {"us": host_us(partial(_wait_for, call), seconds)["p50"]}
    return costs


def _wait_for(call: Callable[[], object]) -> None:
    call()
    torch.cuda.synchronize()
