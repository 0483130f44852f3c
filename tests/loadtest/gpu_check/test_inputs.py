import numpy as np

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.options import Options
from loadtest.record_file import split_records


def test_inputs_are_unchanged_in_the_buffers(options: Options) -> None:
    inputs = options.inputs()
    first, second = inputs.feed([0, 1, 2], 9), inputs.feed([3, 4, 5], 9)

    buffers = Buffers(first, "cpu")
    buffers.state.put(second)
    buffers.request.put(second)

    for name, tensor in buffers.inputs.items():
        np.testing.assert_array_equal(tensor.numpy(), second[name])


def test_a_slate_has_items_of_the_history_and_others(options: Options) -> None:
    inputs = options.inputs()
    (items,) = inputs.feed([0], 100)["items"]
    assert set(items[:20]) <= set(inputs.records[0].recent.tolist())
    assert set(items[20:]) - set(inputs.records[0].recent.tolist())


def test_edge_cases_differ_from_a_real_request(options: Options) -> None:
    inputs = options.inputs()
    real, cases = inputs.feed([0], 20), inputs.edge_cases(20)
    for name, case in cases.items():
        assert case.keys() == real.keys()
        assert any(not np.array_equal(case[key], real[key]) for key in real), name


def test_records_are_split_as_the_builder_wrote_them(options: Options) -> None:
    plain = options.records.with_suffix("")
    assert list(split_records(plain)) == list(split_records(options.records))
    assert [raw for _, raw in options.inputs().packed] == list(split_records(plain))
