import pytest

from loadtest.gpu_check.onnx_engines import CPU, CUDA, check_capture, describe_nodes, open_cuda
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.results import NotRunError
from models.contract.artifact import SCORE

MIXED = {CUDA: ["MatMul"] * 119, CPU: ["Concat", "Squeeze", "Concat"]}


def test_capture_needs_every_node_on_the_device() -> None:
    check_capture({CUDA: ["MatMul"]})
    with pytest.raises(
        NotRunError, match=r"CPUExecutionProvider runs 3 nodes \(Concat 2, Squeeze 1\)"
    ):
        check_capture(MIXED)


def test_one_sentence_names_what_runs_where() -> None:
    assert describe_nodes(MIXED) == (
        "CUDAExecutionProvider runs 119 nodes; CPUExecutionProvider runs 3 nodes (Concat 2, Squeeze 1)"
    )


def test_without_cuda_the_reason_is_given(options: Options) -> None:
    with pytest.raises(NotRunError, match="no CUDA"):
        open_cuda(options.inputs().artifact.graph(SCORE))
