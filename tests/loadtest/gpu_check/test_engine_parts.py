"""The part that times the engine torch: what can be checked without a GPU."""

import numpy as np
import pytest
import torch

from loadtest.gpu_check.engine_parts import open_or_not_run, score_feed, slates_of, work_of
from loadtest.gpu_check.onnx_engines import open_cpu, run_plain
from loadtest.gpu_check.options import Options
from models.contract.artifact import SCORE
from service.runtime.engines.engine import EngineSlate


def test_a_feed_scores_as_in_onnx_runtime(options: Options) -> None:
    inputs = options.inputs()
    engine, session = open_or_not_run(inputs), open_cpu(inputs.artifact.graph(SCORE), 1)
    for feed in (inputs.feed([0, 1, 2], 70), *inputs.edge_cases(9).values()):
        np.testing.assert_allclose(score_feed(engine, feed), run_plain(session, feed), atol=2e-5)


def test_what_was_loaded_is_scored_again_without_copies(options: Options) -> None:
    inputs = options.inputs()
    engine = open_or_not_run(inputs)
    slates = [
        EngineSlate(engine.memory.write(s.state), s.recent, s.context, s.items, s.fields)
        for s in slates_of(inputs.feed([3, 4], 5))
    ]
    expected = engine.score_many(slates)
    launch = engine.load(slates)
    buffers = engine._buckets[1].buffers
    buffers.logits.fill_(torch.nan)

    launch()

    buffers.download()
    for logits, known in zip(buffers.fetched(slates), expected, strict=True):
        np.testing.assert_array_equal(logits, known)


def test_work_grows_with_filled_slots_and_candidates(options: Options) -> None:
    inputs = options.inputs()
    sizes = open_or_not_run(inputs).sizes
    (slate,) = slates_of(inputs.feed([5], 10))
    empty = {name: np.zeros_like(values) for name, values in slate.state.items()}
    none = EngineSlate(empty, slate.recent[:0], slate.context, slate.items, slate.fields)
    filled = int(np.count_nonzero(slate.state["slot_items"]))

    extra = work_of([slate], sizes)["MFLOP"] - work_of([none], sizes)["MFLOP"]

    recent = min(len(slate.recent), sizes.recent)
    pairs = 10 * (filled * sizes.heads + recent * sizes.short_heads)
    assert extra == pytest.approx(pairs * 4 * sizes.dim / 1e6)
    twice = work_of([slate, slate], sizes)["MFLOP"]
    assert twice == pytest.approx(2 * work_of([slate], sizes)["MFLOP"])
