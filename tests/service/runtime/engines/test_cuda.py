"""The engine of captured graphs, on the CPU: buckets, padding, binding. Capture itself needs a GPU."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from models.contract.artifact import SCORE
from models.contract.schema import UNKNOWN
from service.runtime.engines.cuda import CANDIDATES, USERS, CudaEngine, open_engine
from service.runtime.engines.engine import EngineSlate, UnfitError
from service.runtime.engines.onnxruntime import CUDA, OnnxRuntimeEngine, open_session
from tests.service.toy import Toy

HISTORIES = [["i1"], ["i2", "i5"], [], ["i7"] * 3]


def slates_of(toy: Toy, lengths: list[int]) -> list[EngineSlate]:
    rng = np.random.default_rng(0)
    schema = toy.schema
    return [
        EngineSlate(
            toy.state(HISTORIES[number % 4]),
            rng.integers(UNKNOWN, schema.num_items, number % 5),
            rng.integers(UNKNOWN, [field.size for field in schema.context_fields]),
            rng.integers(0, schema.num_items, length),
            rng.integers(
                UNKNOWN,
                [field.size for field in schema.candidate_fields],
                (length, len(schema.candidate_fields)),
            ),
        )
        for number, length in enumerate(lengths)
    ]


@pytest.mark.parametrize(
    "lengths", [[1], [64], [65, 3], [300, 1, 64], [7] * USERS[-1], [CANDIDATES[-1]]], ids=str
)
def test_padded_buckets_score_as_plain_runs_do(tmp_path: Path, lengths: list[int]):
    toy = Toy()
    artifact = toy.save(tmp_path)
    manifest, graph = artifact.manifest, artifact.graph(SCORE)
    engine = CudaEngine(open_session(graph, 1), manifest.schema, manifest.state_spec, "cpu")
    plain = OnnxRuntimeEngine(graph, manifest.schema.recent_length, 1)
    slates = slates_of(toy, lengths)

    results = engine.score_many(slates[::-1])  # another call's values are in the buckets then
    results = engine.score_many(slates)

    for slate, logits in zip(slates, results, strict=True):
        (expected,) = plain.score_many([slate])
        np.testing.assert_allclose(logits, expected, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="for a build without CUDA")
def test_a_build_without_cuda_is_refused(tmp_path: Path):
    with pytest.raises(UnfitError, match="has no CUDAExecutionProvider: install the extra gpu"):
        open_engine(Toy().save(tmp_path), 1)
