"""Which graphs keep data in other files: generated graphs, through the library's own writer."""

from contextlib import suppress

import hypothesis.strategies as st
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from onnx import AttributeProto, FunctionProto, ModelProto, TensorProto, TrainingInfoProto, helper

from models.contract.errors import ArtifactError
from models.contract.onnx_graph import MAX_GRAPH_BYTES, require_self_contained


def tensor(name: str = "w", *, location: str | None = None) -> TensorProto:
    made = helper.make_tensor(name, TensorProto.FLOAT, [2], [1.0, 2.0])
    if location is not None:
        made.ClearField("float_data")
        made.data_location = TensorProto.EXTERNAL
        entry = made.external_data.add()
        entry.key, entry.value = "location", location
    return made


def sparse(part: str, held: TensorProto):
    made = helper.make_sparse_tensor(
        tensor("values"), helper.make_tensor("at", 7, [2], [0, 1]), [4]
    )
    getattr(made, part).CopyFrom(held)
    return made


def attribute(kind: str, held: TensorProto) -> AttributeProto:
    made = AttributeProto(name="value")
    if kind == "t":
        made.t.CopyFrom(held)
    elif kind == "tensors":
        made.tensors.append(held)
    elif kind == "g":
        made.g.initializer.append(held)
    elif kind == "graphs":
        made.graphs.add().initializer.append(held)
    elif kind == "sparse_tensor":
        made.sparse_tensor.CopyFrom(sparse("values", held))
    else:
        made.sparse_tensors.append(sparse("indices", held))
    return made


ATTRIBUTES = ["t", "tensors", "g", "graphs", "sparse_tensor", "sparse_tensors"]
PLACES = ["initializer", "sparse", "training", "function", "function default", *ATTRIBUTES]


def model_with(place: str, held: TensorProto) -> bytes:
    """A model that has the tensor at a place, beside tensors of its own."""
    model = ModelProto(ir_version=10)
    model.graph.initializer.extend([tensor("first"), tensor("second")])
    if place == "initializer":
        model.graph.initializer.append(held)
    elif place == "sparse":
        model.graph.sparse_initializer.append(sparse("values", held))
    elif place == "training":
        training = TrainingInfoProto()
        training.algorithm.initializer.append(held)
        model.training_info.append(training)
    elif place == "function":
        function = FunctionProto(name="f")
        function.node.add(op_type="Constant").attribute.append(attribute("t", held))
        model.functions.append(function)
    elif place == "function default":
        model.functions.add(name="f").attribute_proto.append(attribute("t", held))
    else:
        model.graph.node.add(op_type="Constant").attribute.append(attribute(place, held))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("place", PLACES)
def test_data_in_another_file_is_refused_wherever_a_model_can_name_it(place: str):
    require_self_contained(model_with(place, tensor()), "score.onnx")

    with pytest.raises(ArtifactError, match=r"^artifact: score\.onnx: tensor 'w' keeps its data"):
        require_self_contained(model_with(place, tensor(location="w.bin")), "score.onnx")


@pytest.mark.parametrize("location", ["w.bin", "../w.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", ""])
def test_every_location_is_refused(location: str):
    with pytest.raises(ArtifactError, match="keeps its data outside"):
        require_self_contained(model_with("initializer", tensor(location=location)), "score.onnx")


def test_half_of_the_declaration_is_enough():
    only_location, only_entry = tensor("w", location="w.bin"), tensor("w", location="w.bin")
    only_location.ClearField("external_data")
    only_entry.ClearField("data_location")

    for held in (only_location, only_entry):
        with pytest.raises(ArtifactError, match="keeps its data outside"):
            require_self_contained(model_with("initializer", held), "score.onnx")


def test_a_model_inside_models_inside_models_is_searched_without_recursion():
    # Written by hand: the library's own writer and reader stop at a depth of 100.
    held = tensor("w", location="w.bin").SerializeToString()
    graph = field(5, held)
    for _ in range(3000):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(ArtifactError, match="tensor 'w' keeps its data"):
        require_self_contained(field(7, graph), "score.onnx")


def test_a_split_graph_is_searched_whole():
    # Protobuf merges what comes twice; each part must be looked at.
    second = ModelProto()
    second.graph.initializer.append(tensor("w", location="w.bin"))
    raw = model_with("initializer", tensor()) + second.SerializeToString()

    with pytest.raises(ArtifactError, match="tensor 'w' keeps its data"):
        require_self_contained(raw, "score.onnx")


def test_overlong_numbers_hide_nothing():
    # EXTERNAL written in three bytes; protobuf reads it as 1.
    held = tensor("w").SerializeToString() + bytes([14 << 3, 0x81, 0x80, 0x00])

    assert TensorProto.FromString(held).data_location == TensorProto.EXTERNAL
    with pytest.raises(ArtifactError, match="tensor 'w' keeps its data"):
        require_self_contained(field(7, field(5, held)), "score.onnx")


NO_MODELS = [
    b"\x3a",
    b"\x3a\x05ab",
    b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x07",
    b"\x00\x00",
    b"\x3b\x3c",
    b"\x09abc",
    b"\x0dab",
    b"no graph",
    b"\x80" * 20,
]


@pytest.mark.parametrize("raw", NO_MODELS)
def test_bytes_that_protobuf_cannot_read_are_refused(raw: bytes):
    with pytest.raises(ArtifactError, match=r"^artifact: score\.onnx: not an ONNX model"):
        require_self_contained(raw, "score.onnx")


def test_the_runtimes_own_format_is_refused():
    with pytest.raises(ArtifactError, match="not an ONNX model"):
        require_self_contained(b"\x2a\x06ab" + b"ORTM", "score.onnx")


def test_a_model_longer_than_protobuf_reads_is_refused():
    class Long(bytes):
        def __len__(self) -> int:
            return MAX_GRAPH_BYTES + 1

    with pytest.raises(ArtifactError, match="expected at most"):
        require_self_contained(Long(), "score.onnx")


@given(raw=st.binary(max_size=300))
def test_any_bytes_are_accepted_or_refused_with_a_sentence(raw: bytes):
    with suppress(ArtifactError):
        require_self_contained(raw, "score.onnx")


@given(cuts=st.data())
def test_a_damaged_model_with_outside_data_never_passes_as_whole(cuts: st.DataObject):
    whole = bytearray(model_with("initializer", tensor(location="w.bin")))
    at = cuts.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= cuts.draw(st.integers(1, 255))
    try:
        read = ModelProto.FromString(bytes(whole))
    except DecodeError:
        return  # the runtime refuses it too
    names = [one.name for one in read.graph.initializer if one.external_data or one.data_location]
    if names:
        with pytest.raises(ArtifactError):
            require_self_contained(bytes(whole), "score.onnx")


def field(number: int, content: bytes) -> bytes:
    """A protobuf field that holds bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
