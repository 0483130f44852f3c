"""Times of each engine at each size: on the device alone, and from host memory to host memory.

A "hit" finds the user's state on the device. A "miss" copies it there first.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import onnxruntime as ort
import torch

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.inputs import Feed, Inputs
from loadtest.gpu_check.onnx_engines import (
    bound,
    check_capture,
    nodes_by_provider,
    open_cpu,
    open_cuda,
    run_plain,
)
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.results import NotRunError, Results
from loadtest.gpu_check.timing import Quantiles, columns, device_us, host_us
from loadtest.gpu_check.torch_engines import captured, compiled, eager
from models.base import CtrModel
from models.contract.artifact import SCORE

TABLE = "µs"
COMPILED_SLATES = (1024, 4096)
Size = tuple[int, int]
"""Users, and candidates of each."""
Make = Callable[[Buffers], Callable[[], None]]
"""Makes the call that scores on some buffers."""


def check_onnx_cpu(options: Options, results: Results) -> None:
    """ONNX Runtime on the CPU, with one thread and with one for each core."""
    inputs = options.inputs()
    for threads, name in ((1, "1 thread"), (0, "all threads")):
        session = open_cpu(inputs.artifact.graph(SCORE), threads)
        for size in sizes_of(options):
            _add_plain(f"onnxruntime cpu, {name}", session, inputs, size, options, results)


def check_onnx_cuda(options: Options, results: Results) -> None:
    """ONNX Runtime on CUDA: as the service runs it, on fixed buffers, and with its own CUDA graph."""
    _need_cuda(options)
    inputs = options.inputs()
    graph = inputs.artifact.graph(SCORE)
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        session = open_cuda(graph)
        for size in sizes_of(options):
            _add_plain("onnxruntime cuda, plain", session, inputs, size, options, results)
        for size in sizes_of(options):
            measure = partial(_measure_bound, inputs, session, size, options)
            _add("onnxruntime cuda, bound", size, measure, results)
        try:
            check_capture(nodes_by_provider(session))
        except NotRunError as reason:
            results.note(f"onnxruntime cuda, graph: not run: {reason}")
            return
        for size in sizes_of(options):
            measure = partial(_measure_onnx_graph, inputs, size, options)
            _add("onnxruntime cuda, graph", size, measure, results)


def check_torch(options: Options, results: Results) -> None:
    """torch, launched and in a CUDA graph."""
    inputs = options.inputs()
    model = inputs.model().to(options.device)
    if options.device != "cuda":
        size = (1, min(options.effort.slates))
        run = eager(model, Buffers(_feed(inputs, size), "cpu"))
        row = row_of("torch cpu, eager", size, miss=host_us(run, options.effort.seconds))
        results.add(TABLE, row)
        raise NotRunError("no CUDA device")
    for size in sizes_of(options):
        _add(
            "torch eager",
            size,
            partial(_measure, partial(eager, model), inputs, size, options),
            results,
        )
    for size in sizes_of(options):
        make = partial(_captured_eager, model)
        _add("torch graph", size, partial(_measure, make, inputs, size, options), results)


def _captured_eager(model: CtrModel, buffers: Buffers) -> Callable[[], None]:
    return captured(eager(model, buffers))


def check_compiled(options: Options, results: Results) -> None:
    """torch.compile, then in a CUDA graph. One user only, since every shape is compiled by itself."""
    _need_cuda(options)
    inputs = options.inputs()
    model = inputs.model().to(options.device)
    for slate in sorted(set(COMPILED_SLATES) & set(options.effort.slates)):
        size = (1, slate)
        start = time.perf_counter()
        compiled(model, Buffers(_feed(inputs, size), "cuda"))()
        torch.cuda.synchronize()
        results.note(f"torch.compile at {size}: {time.perf_counter() - start:.1f} s")
        make: Make = partial(compiled, model)
        _add("torch compiled", size, partial(_measure, make, inputs, size, options), results)
        make = partial(_captured_compiled, model)
        _add("torch compiled, graph", size, partial(_measure, make, inputs, size, options), results)


def _captured_compiled(model: CtrModel, buffers: Buffers) -> Callable[[], None]:
    return captured(compiled(model, buffers))


def _add(
    name: str, size: Size, measure: Callable[[], dict[str, Quantiles]], results: Results
) -> None:
    """Add a row, or a note with the reason why there is none; other sizes are measured anyway."""
    try:
        results.add(TABLE, row_of(name, size, **measure()))
    except Exception as error:
        results.note(f"{name} at {size}: {type(error).__name__}: {str(error)[:600]}")


def _add_plain(
    name: str,
    session: ort.InferenceSession,
    inputs: Inputs,
    size: Size,
    options: Options,
    results: Results,
) -> None:
    call = partial(run_plain, session, _feed(inputs, size))
    results.add(TABLE, row_of(name, size, miss=host_us(call, options.effort.seconds)))


def _measure(make: Make, inputs: Inputs, size: Size, options: Options) -> dict[str, Quantiles]:
    feed = _feed(inputs, size)
    buffers = Buffers(feed, "cuda")
    return _device_hit_miss(make(buffers), make(buffers), buffers, feed, options.effort.seconds)


def _measure_bound(
    inputs: Inputs, session: ort.InferenceSession, size: Size, options: Options
) -> dict[str, Quantiles]:
    feed = _feed(inputs, size)
    buffers = Buffers(feed, "cuda")
    queued, run = bound(session, buffers, is_waiting=False), bound(session, buffers)
    return _device_hit_miss(queued, run, buffers, feed, options.effort.seconds)


def _measure_onnx_graph(inputs: Inputs, size: Size, options: Options) -> dict[str, Quantiles]:
    sizes = {"users": size[0], "candidates": size[1]}
    session = open_cuda(inputs.artifact.graph(SCORE), is_graph=True, sizes=sizes)
    return _measure_bound(inputs, session, size, options)


def _device_hit_miss(
    queued: Callable[[], None],
    run: Callable[[], None],
    buffers: Buffers,
    feed: Feed,
    seconds: float,
) -> dict[str, Quantiles]:
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


def _feed(inputs: Inputs, size: Size) -> Feed:
    return inputs.feed(range(size[0]), size[1])


def sizes_of(options: Options) -> Iterator[Size]:
    """Sizes that are timed."""
    for users in (1, options.effort.joined):
        for candidates in options.effort.slates:
            yield users, candidates


def row_of(name: str, size: Size, **times: Quantiles) -> dict[str, Any]:
    """A row of `TABLE`: times by path, those of "device", "hit" and "miss" that were taken."""
    row: dict[str, Any] = {"engine": name, "users": size[0], "B": size[1]}
    for path in ("device", "hit", "miss"):
        if path in times:
            row |= columns(path, times[path])
    return row


def _need_cuda(options: Options) -> None:
    if options.device != "cuda":
        raise NotRunError("no CUDA device")
