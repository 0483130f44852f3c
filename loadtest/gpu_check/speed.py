"""Times of each engine at each size: on the device alone, and from and to the host's memory.

A "hit" has the user's state on the device already; a "miss" copies it there first.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.fused import Tiles, fused
from loadtest.gpu_check.fused_plan import make_plan
from loadtest.gpu_check.inputs import Feed, Inputs
from loadtest.gpu_check.onnx_engines import bound, open_cpu, open_cuda, run_plain
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.report import NotRunError, Report
from loadtest.gpu_check.timing import device_us, host_us
from loadtest.gpu_check.torch_engines import captured, compiled, eager, on_device
from models.contract.artifact import SCORE

TABLE = "µs"
Size = tuple[int, int]
"""Users and candidates of each."""
Make = Callable[[Buffers], Callable[[], None]]


def check_onnx_cpu(options: Options, report: Report) -> None:
    """ONNX Runtime on the CPU, with one thread and with one for each core."""
    inputs = options.inputs()
    path = inputs.artifact.file(SCORE)
    for threads in (1, 0):
        session = open_cpu(path, threads)
        name = f"onnxruntime cpu, {threads or 'all'} thread{'' if threads == 1 else 's'}"
        for size in _sizes(options):
            feed = _feed(inputs, size)
            whole = host_us(lambda s=session, f=feed: run_plain(s, f), options.seconds)
            report.add(TABLE, _row(name, size, miss=whole))


def check_onnx_cuda(options: Options, report: Report) -> None:
    """ONNX Runtime on CUDA: as the service runs it, on fixed buffers, and with its own CUDA graph."""
    _need_cuda(options)
    inputs = options.inputs()
    path = inputs.artifact.file(SCORE)
    with torch.cuda.stream(torch.cuda.Stream()):
        session = open_cuda(path)
        for size in _sizes(options):
            feed = _feed(inputs, size)
            whole = host_us(lambda feed=feed: run_plain(session, feed), options.seconds)
            report.add(TABLE, _row("onnxruntime cuda, plain", size, miss=whole))
        for size in _sizes(options):
            name = "onnxruntime cuda, bound"
            _try(report, name, size, lambda size=size: _bound(inputs, session, size, options))
        for size in _sizes(options):
            name = "onnxruntime cuda, graph"
            _try(report, name, size, lambda size=size: _graph(inputs, size, options))


def check_torch(options: Options, report: Report) -> None:
    """torch, launched and in a CUDA graph."""
    inputs = options.inputs()
    model = on_device(inputs.model(), options.device)
    if options.device != "cuda":
        feed = _feed(inputs, (1, min(options.slates)))
        run = eager(model, Buffers(feed, "cpu"))
        whole = host_us(run, options.seconds)
        report.add(TABLE, _row("torch cpu, eager", (1, min(options.slates)), miss=whole))
        raise NotRunError("no CUDA device")
    _time_all("torch eager", lambda buffers: eager(model, buffers), inputs, options, report)
    _time_all(
        "torch graph", lambda buffers: captured(eager(model, buffers)), inputs, options, report
    )


def check_compiled(options: Options, report: Report) -> None:
    """torch.compile, then in a CUDA graph; one user only, since each shape takes its compilation."""
    _need_cuda(options)
    inputs = options.inputs()
    model = on_device(inputs.model(), options.device)
    makes: dict[str, Make] = {
        "torch compiled": lambda buffers: compiled(model, buffers),
        "torch compiled, graph": lambda buffers: captured(compiled(model, buffers)),
    }
    for size in [(1, candidates) for candidates in options.slates if candidates in (1024, 4096)]:
        start = time.perf_counter()
        compiled(model, Buffers(_feed(inputs, size), "cuda"))()
        torch.cuda.synchronize()
        report.note(f"torch.compile at {size}: {time.perf_counter() - start:.1f} s")
        for name, make in makes.items():
            _try(report, name, size, lambda s=size, m=make: _timed(m, inputs, s, options))


def check_fused_times(options: Options, report: Report) -> None:
    """The fused engine in a CUDA graph, then other ways to cut its work at two sizes."""
    _need_cuda(options)
    inputs = options.inputs()
    plan = make_plan(inputs.model()).to("cuda")

    def cut(tiles: Tiles) -> Make:
        return lambda buffers: captured(fused(plan, buffers, tiles))

    _time_all("fused graph", cut(Tiles()), inputs, options, report)
    for tiles in (
        Tiles(candidates=32), Tiles(candidates=128, warps=8), Tiles(head_warps=4),
        Tiles(precision="tf32"),
    ):  # fmt: skip
        for size in [(1, 1024), (1, 4096), (options.joined, 1024)]:
            name = "fused graph " + ", ".join(f"{k} {v}" for k, v in vars(tiles).items())
            _try(report, name, size, lambda s=size, t=tiles: _timed(cut(t), inputs, s, options))


def _time_all(name: str, make: Make, inputs: Inputs, options: Options, report: Report) -> None:
    for size in _sizes(options):
        _try(report, name, size, lambda size=size: _timed(make, inputs, size, options))


def _try(report: Report, name: str, size: Size, measure: Callable[[], dict[str, Any]]) -> None:
    """Add a line, or say why there is none: one size's failure leaves the others."""
    try:
        report.add(TABLE, _row(name, size, **measure()))
    except Exception as error:
        report.note(f"{name} at {size}: {type(error).__name__}: {str(error)[:600]}")


def _timed(make: Make, inputs: Inputs, size: Size, options: Options) -> dict[str, Any]:
    feed = _feed(inputs, size)
    buffers = Buffers(feed, "cuda")
    return _both(make(buffers), make(buffers), buffers, feed, options.seconds)


def _both(
    queued: Callable[[], None], run: Callable[[], None], buffers: Buffers, feed: Feed, seconds: float
) -> dict[str, Any]:  # fmt: skip
    """Times on the device, of a hit and of a miss; `queued` is `run` without a wait at its end."""

    def hit() -> None:
        buffers.request.put(feed)
        run()
        buffers.fetch()

    def miss() -> None:
        buffers.state.put(feed)
        hit()

    return {
        "device": device_us(queued, seconds),
        "hit": host_us(hit, seconds),
        "miss": host_us(miss, seconds),
    }


def _bound(inputs: Inputs, session: Any, size: Size, options: Options) -> dict[str, Any]:
    feed = _feed(inputs, size)
    buffers = Buffers(feed, "cuda")
    queued, run = bound(session, buffers, wait=False), bound(session, buffers)
    return _both(queued, run, buffers, feed, options.seconds)


def _graph(inputs: Inputs, size: Size, options: Options) -> dict[str, Any]:
    path = inputs.artifact.file(SCORE)
    session = open_cuda(path, graph=True, fixed={"users": size[0], "candidates": size[1]})
    return _bound(inputs, session, size, options)


def _feed(inputs: Inputs, size: Size) -> Feed:
    return inputs.feed(list(range(size[0])), size[1])


def _sizes(options: Options) -> Iterator[Size]:
    for users in (1, options.joined):
        for candidates in options.slates:
            yield users, candidates


def _row(name: str, size: Size, **found: dict[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {"engine": name, "users": size[0], "B": size[1]}
    for what in ("device", "hit", "miss"):
        if what in found:
            row |= {f"{what} {quantile}": us for quantile, us in found[what].items()}
    return row


def _need_cuda(options: Options) -> None:
    if options.device != "cuda":
        raise NotRunError("no CUDA device")
