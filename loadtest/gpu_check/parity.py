"""Every engine on the device against ONNX Runtime on one thread of the CPU: the same users, slates, edge cases."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.fused import Tiles, fused
from loadtest.gpu_check.fused_plan import make_plan
from loadtest.gpu_check.inputs import Feed, Inputs
from loadtest.gpu_check.onnx_engines import bound, nodes_by_provider, open_cpu, open_cuda, run_plain
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.report import NotRunError, Report
from loadtest.gpu_check.torch_engines import captured, eager, on_device
from models.contract.artifact import SCORE

SLATES = (1, 7, 256, 1000, 4096)
TOP = 10
Score = Callable[[Feed], NDArray[Any]]


def check_parity(options: Options, report: Report) -> None:
    """ONNX Runtime on CUDA without and with TF32, torch eager and in a CUDA graph."""
    inputs = options.inputs()
    reference = _reference(options, inputs)
    engines = {
        "onnxruntime cuda": lambda: _onnx(inputs, report, tf32=False),
        "onnxruntime cuda tf32": lambda: _onnx(inputs, report, tf32=True),
        "onnxruntime cuda graph": lambda: _onnx_graph(inputs),
        "torch eager": lambda: _torch(inputs, options.device, tf32=False, graph=False),
        "torch eager tf32": lambda: _torch(inputs, options.device, tf32=True, graph=False),
        "torch graph": lambda: _torch(inputs, options.device, tf32=False, graph=True),
    }
    _compare_all(engines, reference, report)


def check_fused(options: Options, report: Report) -> None:
    """The fused engine, launched and in a CUDA graph."""
    if options.device != "cuda":
        raise NotRunError("no CUDA device (its kernels are tested in Triton's interpreter)")
    inputs = options.inputs()
    plan = make_plan(inputs.model()).to(options.device)

    def scored(tiles: Tiles, *, graph: bool) -> Score:
        def score(feed: Feed) -> NDArray[Any]:
            buffers = Buffers(feed, options.device)
            buffers.logits.fill_(float("nan"))
            run = fused(plan, buffers, tiles)
            (captured(run) if graph else run)()
            return buffers.fetch()

        return score

    engines = {
        "fused tf32x3": lambda: scored(Tiles(), graph=False),
        "fused tf32x3 graph": lambda: scored(Tiles(), graph=True),
        "fused tf32": lambda: scored(Tiles(precision="tf32"), graph=False),
    }
    _compare_all(engines, _reference(options, inputs), report)


Reference = list[tuple[str, Feed, NDArray[Any]]]


def _reference(options: Options, inputs: Inputs) -> Reference:
    """(group, feed, logits by the CPU) of each comparison."""
    session = open_cpu(inputs.artifact.file(SCORE), 1)
    return [(group, feed, run_plain(session, feed)) for group, feed in _feeds(options, inputs)]


def _feeds(options: Options, inputs: Inputs) -> Iterator[tuple[str, Feed]]:
    # Few users have the long slates: a user's longest takes a CPU some ten milliseconds.
    slates = [one for one in SLATES if one <= max(options.slates)]
    for user in range(options.users):
        yield f"B = {slates[user % len(slates)]}", inputs.feed([user], slates[user % len(slates)])
    joined = list(range(options.joined))
    yield f"{len(joined)} users joined", inputs.feed(joined, min(256, max(options.slates)))
    yield from inputs.edge_cases(min(64, max(options.slates))).items()


def _compare_all(
    engines: dict[str, Callable[[], Score]], reference: Reference, report: Report
) -> None:
    for name, make in engines.items():
        try:
            _compare(name, make(), reference, report)
        except Exception as error:  # one engine's failure leaves the others
            report.note(f"{name}: {type(error).__name__}: {str(error)[:600]}")


def _compare(name: str, score: Score, reference: Reference, report: Report) -> None:
    worst: dict[str, list[tuple[float, float, bool]]] = {}
    for group, feed, expected in reference:
        worst.setdefault(group, []).append(_difference(score(feed), expected))
    everything = [one for found in worst.values() for one in found]
    for group, found in {"all": everything, **worst}.items():
        logit, probability, changed = zip(*found, strict=True)
        report.add(
            "differences from onnxruntime on the CPU",
            {"engine": name, "what": group, "runs": len(found), "max logit": max(logit),
             "max p": max(probability), "top 10 changed": sum(changed)},
        )  # fmt: skip


def _difference(got: NDArray[Any], expected: NDArray[Any]) -> tuple[float, float, bool]:
    if not np.isfinite(got).all():
        return float("inf"), float("inf"), True
    logit = np.abs(got - expected).max()
    p = [1 / (1 + np.exp(-x.astype(np.float64))) for x in (got, expected)]
    best = [np.argsort(-x, axis=1, kind="stable")[:, :TOP] for x in (got, expected)]
    return float(logit), float(np.abs(p[0] - p[1]).max()), not np.array_equal(*best)


def _onnx(inputs: Inputs, report: Report, *, tf32: bool) -> Score:
    session = open_cuda(inputs.artifact.file(SCORE), tf32=tf32)
    if not tf32:
        _say_where_nodes_run(session, report)
    return lambda feed: run_plain(session, feed)


def _say_where_nodes_run(session: ort.InferenceSession, report: Report) -> None:
    try:
        found = nodes_by_provider(session)
    except Exception as error:  # young in ONNX Runtime: its absence is no failure of the check
        report.note(f"which provider runs which node is not known: {error}")
        return
    for provider, operators in found.items():
        report.note(f"{provider} runs {len(operators)} nodes")
        if not provider.startswith("CUDA"):
            report.note(f"{provider}: {', '.join(sorted(operators))}")


def _onnx_graph(inputs: Inputs) -> Score:
    def score(feed: Feed) -> NDArray[Any]:
        if not torch.cuda.is_available():
            raise NotRunError("no CUDA device")
        with torch.cuda.stream(torch.cuda.Stream()):
            users, candidates = feed["items"].shape
            sizes = {"users": users, "candidates": candidates}
            path = inputs.artifact.file(SCORE)
            key = (users, candidates)
            if key not in kept:
                buffers = Buffers(feed, "cuda")
                kept[key] = buffers, bound(open_cuda(path, graph=True, fixed=sizes), buffers)
            buffers, run = kept[key]
            buffers.state.put(feed)
            buffers.request.put(feed)
            torch.cuda.synchronize()
            buffers.logits.fill_(float("nan"))
            torch.cuda.synchronize()
            run()  # the first captures, the others replay
            torch.cuda.synchronize()
            return buffers.fetch()

    kept: dict[tuple[int, int], Any] = {}
    return score


def _torch(inputs: Inputs, device: str, *, tf32: bool, graph: bool) -> Score:
    if device != "cuda" and (tf32 or graph):
        raise NotRunError("no CUDA device")
    model = on_device(inputs.model(), device)

    def score(feed: Feed) -> NDArray[Any]:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        buffers = Buffers(feed, device)
        buffers.logits.fill_(float("nan"))
        run = eager(model, buffers)
        (captured(run) if graph else run)()
        torch.backends.cuda.matmul.allow_tf32 = False
        return buffers.fetch()

    return score
