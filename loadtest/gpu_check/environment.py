"""The machine, and the floors that it sets: bandwidth, arithmetic, a launch, a copy."""

import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from loadtest.gpu_check.options import Options
from loadtest.gpu_check.report import NotRunError, Report
from loadtest.gpu_check.timing import device_us, host_us
from loadtest.gpu_check.torch_engines import captured

PACKAGES = ("torch", "triton", "onnxruntime-gpu", "onnxruntime", "numpy", "fastapi", "uvloop")
COPIED = 1 << 31
SIDE = 8192
STATE_BYTES = 73_000


def check_environment(options: Options, report: Report) -> None:
    """Versions, then floors of the device."""
    for name, said in machine().items():
        report.add("machine", {"what": name, "is": said})
    if options.device != "cuda":
        raise NotRunError("no CUDA device")
    for name, said in _floors(options.seconds).items():
        report.add("floors", {"what": name, **said})


def machine() -> dict[str, str]:
    """What the figures are true of."""
    said = {"python": sys.version.split()[0], "platform": platform.platform(), "cpu": _cpu()}
    for name in PACKAGES:
        try:
            said[name] = version(name)
        except PackageNotFoundError:
            said[name] = "not installed"
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        said |= {"device": about.name, "multiprocessors": str(about.multi_processor_count)}
        said |= {"device memory": f"{about.total_memory >> 20} MiB", "driver": _driver()}
    return said


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


def _floors(seconds: float) -> dict[str, dict[str, float | str]]:
    device = "cuda"
    source = torch.randint(0, 255, (COPIED,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    us = device_us(lambda: target.copy_(source), seconds)["p50"]
    found: dict[str, dict[str, float | str]] = {
        "device copy": {"us": us, "rate": 2 * COPIED / us / 1e6, "unit": "TB/s read + written"}
    }
    del source, target
    for name, dtype, tf32 in (
        ("bf16 product", torch.bfloat16, False),
        ("tf32 product", torch.float32, True),
        ("fp32 product", torch.float32, False),
    ):
        a, b = (torch.randn(SIDE, SIDE, device=device, dtype=dtype) for _ in range(2))
        torch.backends.cuda.matmul.allow_tf32 = tf32
        us = device_us(lambda a=a, b=b: a @ b, seconds)["p50"]
        found[name] = {"us": us, "rate": 2 * SIDE**3 / us / 1e6, "unit": "TFLOP/s"}
    torch.backends.cuda.matmul.allow_tf32 = False
    return found | _small(seconds)


def _small(seconds: float) -> dict[str, dict[str, float | str]]:
    number = torch.zeros(1, device="cuda")
    replay = captured(lambda: number.add_(1))
    state = torch.zeros(STATE_BYTES, dtype=torch.uint8).pin_memory()
    slot = torch.zeros(STATE_BYTES, dtype=torch.uint8, device="cuda")
    calls: dict[str, Callable[[], object]] = {
        "one kernel": lambda: number.add_(1),
        "graph of one kernel": replay,
        "73 kB host to device": lambda: slot.copy_(state, non_blocking=True),
    }
    found: dict[str, dict[str, float | str]] = {}
    for name, call in calls.items():

        def waited(call: Callable[[], object] = call) -> None:
            call()
            torch.cuda.synchronize()

        found[f"{name}, back to back"] = {"us": device_us(call, seconds)["p50"]}
        found[f"{name}, waited for"] = {"us": host_us(waited, seconds)["p50"]}
    return found
