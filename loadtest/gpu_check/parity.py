"""Scores of every engine against ONNX Runtime on one thread of the CPU: same users, slates and edge cases."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.engine_parts import open_or_not_run, score_feed
from loadtest.gpu_check.inputs import Feed, Inputs
from loadtest.gpu_check.onnx_engines import (
    bound,
    check_capture,
    describe_nodes,
    nodes_by_provider,
    open_cpu,
    open_cuda,
    run_plain,
)
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.results import NotRunError, Results
from loadtest.gpu_check.torch_engines import captured, eager
from models.contract.artifact import SCORE

TABLE = "differences from onnxruntime on the CPU"
SLATES = (1, 7, 256, 1000, 4096)
TOP = 10
Logits = NDArray[np.float32]
Score = Callable[[Feed], Logits]
Reference = Sequence[tuple[str, Feed, Logits]]
"""(group, inputs, logits on the CPU) of each comparison."""


def check_parity(options: Options, results: Results) -> None:
    """Compare the service's engine, ONNX Runtime on CUDA without and with TF32, torch eager, and torch in a graph."""
    inputs = options.inputs()
    engines: dict[str, Callable[[], Score]] = {
        "engine torch": partial(_engine, inputs),
        "onnxruntime cuda": partial(_onnx, inputs, results, is_tf32=False),
        "onnxruntime cuda tf32": partial(_onnx, inputs, results, is_tf32=True),
        "onnxruntime cuda graph": partial(_onnx_graph, inputs),
        "torch eager": partial(_torch, inputs, options.device, is_tf32=False, is_graph=False),
        "torch eager tf32": partial(_torch, inputs, options.device, is_tf32=True, is_graph=False),
        "torch graph": partial(_torch, inputs, options.device, is_tf32=False, is_graph=True),
    }
    _compare_all(engines, _reference(options, inputs), results)


def _reference(options: Options, inputs: Inputs) -> Reference:
    session = open_cpu(inputs.artifact.graph(SCORE), 1)
    return [(group, feed, run_plain(session, feed)) for group, feed in _feeds(options, inputs)]


def _feeds(options: Options, inputs: Inputs) -> Iterator[tuple[str, Feed]]:
    longest = max(options.effort.slates)
    slates = [slate for slate in SLATES if slate <= longest]
    for user in range(options.effort.users):
        slate = slates[user % len(slates)]
        yield f"B = {slate}", inputs.feed([user], slate)
    joined = range(options.effort.joined)
    yield f"{len(joined)} users joined", inputs.feed(joined, min(256, longest))
    yield from inputs.edge_cases(min(64, longest)).items()


def _compare_all(
    engines: Mapping[str, Callable[[], Score]], reference: Reference, results: Results
) -> None:
    for name, make in engines.items():
        try:
            _compare(name, make(), reference, results)
        except NotRunError as reason:
            results.note(f"{name}: not run: {reason}")
        except Exception as error:  # the other engines are compared anyway
            results.note(f"{name}: {type(error).__name__}: {str(error)[:600]}")


def _compare(name: str, score: Score, reference: Reference, results: Results) -> None:
    by_group: dict[str, list[tuple[float, float, bool]]] = {}
    for group, feed, expected in reference:
        by_group.setdefault(group, []).append(_difference(score(feed), expected))
    all_groups = [difference for group in by_group.values() for difference in group]
    for group, differences in {"all": all_groups, **by_group}.items():
        logit, probability, is_changed = zip(*differences, strict=True)
        row = {
            "engine": name,
            "inputs": group,
            "runs": len(differences),
            "max logit": max(logit),
            "max p": max(probability),
            "top 10 changed": sum(is_changed),
        }
        results.add(TABLE, row)


def _difference(actual: Logits, expected: Logits) -> tuple[float, float, bool]:
    """Largest difference of a logit and of a probability, and whether the best ten differ."""
    if not np.isfinite(actual).all():
        return float("inf"), float("inf"), True
    probability = [1 / (1 + np.exp(-logits.astype(np.float64))) for logits in (actual, expected)]
    best = [np.argsort(-logits, axis=1, kind="stable")[:, :TOP] for logits in (actual, expected)]
    return (
        float(np.abs(actual - expected).max()),
        float(np.abs(probability[0] - probability[1]).max()),
        not np.array_equal(best[0], best[1]),
    )


def _engine(inputs: Inputs) -> Score:
    """The service's engine: kernels on a GPU, plain torch on a CPU."""
    return partial(score_feed, open_or_not_run(inputs))


def _onnx(inputs: Inputs, results: Results, *, is_tf32: bool) -> Score:
    session = open_cuda(inputs.artifact.graph(SCORE), is_tf32=is_tf32)
    if not is_tf32:
        _note_nodes(session, results)
    return partial(run_plain, session)


def _note_nodes(session: ort.InferenceSession, results: Results) -> None:
    try:
        results.note(describe_nodes(nodes_by_provider(session)))
    except Exception as error:  # a recent function of ONNX Runtime; older versions lack it
        results.note(f"which provider runs which node is unknown: {error}")


def _onnx_graph(inputs: Inputs) -> Score:
    graph = inputs.artifact.graph(SCORE)
    check_capture(nodes_by_provider(open_cuda(graph)))
    by_shape: dict[tuple[int, ...], tuple[Buffers, Callable[[], None]]] = {}

    def score(feed: Feed) -> Logits:
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            users, candidates = shape = feed["items"].shape
            if shape not in by_shape:
                sizes = {"users": users, "candidates": candidates}
                session = open_cuda(graph, is_graph=True, sizes=sizes)
                buffers = Buffers(feed, "cuda")
                by_shape[shape] = buffers, bound(session, buffers)
            buffers, run = by_shape[shape]
            buffers.state.put(feed)
            buffers.request.put(feed)
            buffers.logits.fill_(float("nan"))
            torch.cuda.synchronize()
            run()  # the first run captures, later runs replay
            torch.cuda.synchronize()
            return buffers.fetch()

    return score


def _torch(inputs: Inputs, device: str, *, is_tf32: bool, is_graph: bool) -> Score:
    if device != "cuda" and (is_tf32 or is_graph):
        raise NotRunError("no CUDA device")
    model = inputs.model().to(device)

    def score(feed: Feed) -> Logits:
        torch.backends.cuda.matmul.allow_tf32 = is_tf32
        buffers = Buffers(feed, device)
        buffers.logits.fill_(float("nan"))
        run: Any = eager(model, buffers)
        (captured(run) if is_graph else run)()
        torch.backends.cuda.matmul.allow_tf32 = False
        return buffers.fetch()

    return score
