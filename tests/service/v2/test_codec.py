"""Tensors come back as they were sent, and bytes that are no tensor are a RequestError, whatever they are."""

import struct
from contextlib import suppress

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from models.contract.errors import RequestError
from service.transport.limits import SlateLimits
from service.v2.codec import tensor_from_bytes, tensor_from_json, tensor_to_bytes, tensor_to_json
from service.v2.messages import BYTES, DTYPES, InferRequest, InferTensor
from service.v2.wire import read_infer

FEW = settings(max_examples=40)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
datatypes = st.sampled_from(sorted(DTYPES))
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
LIMITS = SlateLimits(20, 20)


@st.composite
def tensors(draw: st.DrawFn) -> InferTensor:
    shape = draw(shapes)
    if draw(st.booleans()):
        count = int(np.prod(shape))
        kind = draw(st.sampled_from([texts, st.text("abc123", min_size=1, max_size=9)]))
        return InferTensor("x", BYTES, shape, draw(st.lists(kind, min_size=count, max_size=count)))
    datatype = draw(datatypes)
    dtype = np.dtype(DTYPES[datatype])
    elements = npst.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    data = draw(npst.arrays(dtype, shape, elements=elements))
    return InferTensor("x", datatype, shape, data.ravel())


def same(one: InferTensor, other: InferTensor) -> bool:
    described = (one.name, one.datatype, one.shape) == (other.name, other.datatype, other.shape)
    return described and list(one.data) == list(other.data)


@FEW
@given(tensors())
def test_what_is_packed_as_bytes_comes_back(tensor: InferTensor) -> None:
    raw = tensor_to_bytes(tensor)
    assert same(tensor_from_bytes("x", tensor.datatype, tensor.shape, raw, {}), tensor)


@FEW
@given(tensors(), st.booleans())
def test_tensors_from_json_come_back(tensor: InferTensor, is_nested: bool) -> None:
    said = orjson.loads(orjson.dumps(tensor_to_json(tensor), option=orjson.OPT_SERIALIZE_NUMPY))
    data = said["data"]
    if is_nested and tensor.shape:
        data = np.array(data, object).reshape(tensor.shape).tolist()
    shape = tuple(said["shape"])
    assert same(tensor_from_json("x", said["datatype"], shape, data, {}), tensor)


@FEW
@given(st.binary(max_size=40), st.sampled_from([*DTYPES, BYTES, "BF16", ""]), shapes)
def test_invalid_bytes_are_a_request_error(
    raw: bytes, datatype: str, shape: tuple[int, ...]
) -> None:
    with suppress(RequestError):
        assert tensor_to_bytes(tensor_from_bytes("x", datatype, shape, raw, {})) == raw


@FEW
@given(json_values, st.sampled_from([*DTYPES, BYTES, "BF16", ""]), shapes)
def test_invalid_json_is_a_request_error(
    value: object, datatype: str, shape: tuple[int, ...]
) -> None:
    with suppress(RequestError):
        assert len(tensor_from_json("x", datatype, shape, value, {}).data) == np.prod(shape)


@FEW
@given(
    st.lists(st.text("a1é\0", max_size=4), min_size=50, max_size=90) | st.lists(texts, max_size=12)
)
def test_strings_are_found_as_a_walk_finds_them(values: list[str]) -> None:
    raw = b"".join(struct.pack("<I", len(one.encode())) + one.encode() for one in values)
    found = tensor_from_bytes("x", BYTES, (len(values),), raw, {})
    assert found.data == values


@FEW
@given(st.integers(0, 999), st.integers(0, 255))
def test_one_wrong_byte_in_many_strings_is_seen(at: int, value: int) -> None:
    values = [f"i{n}" for n in range(200)]
    raw = bytearray(tensor_to_bytes(InferTensor("x", BYTES, (200,), values)))
    raw[at] = value
    with suppress(RequestError):
        found = tensor_from_bytes("x", BYTES, (200,), bytes(raw), {})
        assert tensor_to_bytes(found) == raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\5\0\0\0abc", "too few bytes"),
        (b"\1\0\0", "number of bytes: got 3, expected at least 4"),
        (b"\1\0\0\0", "too few bytes"),
        (b"\2\0\0\0\xff\xfe", "UTF-8 text"),
        (b"\1\0\0\0a\1\0\0\0b", "number of elements: got more than 1, expected 1"),
    ],
)
def test_errors_of_strings_name_the_problem(raw: bytes, expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        tensor_from_bytes("x", BYTES, (1,), raw, {})


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("INT64", ["1", "2"], r"data\[0\]: got '1'"),
        ("INT64", [1, 2.5], r"data\[1\]: got 2.5"),
        ("INT64", [1, True], r"data\[1\]: got True"),
        ("UINT8", [1, 300], "elements of UINT8"),
        ("BYTES", ["a", 2], r"data\[1\]: got 2"),
        ("BYTES", [["a", "b"]], "nested as the shape"),
        ("BYTES", ["a"], "1 element"),
        ("BYTES", "ab", "a list"),
        ("TEXT", ["a", "b"], "one of BOOL, UINT8"),
    ],
)
def test_errors_of_json_name_the_problem(datatype: str, data: object, expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        tensor_from_json("x", datatype, (2,), data, {})


infer_like = st.fixed_dictionaries(
    {},
    optional={
        "id": json_values,
        "parameters": json_values,
        "outputs": st.lists(st.dictionaries(st.sampled_from(["name", "parameters"]), json_values)),
        "inputs": json_values
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "name": texts,
                    "datatype": st.sampled_from(["BYTES", "INT64", "x"]),
                    "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
                    "data": json_values,
                    "parameters": st.dictionaries(
                        st.just("binary_data_size"), st.integers(-1, 9) | json_values
                    ),
                },
            ),
            max_size=3,
        ),
    },
)


@FEW
@given(infer_like, st.binary(max_size=20), st.integers(-3, 3) | st.none(), st.booleans())
def test_a_body_is_read_or_is_a_request_error(
    fields: dict[str, object], tail: bytes, off: int | None, is_garbled: bool
) -> None:
    header = orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS)
    body = header + tail
    if is_garbled:
        body = body[::-1]
    length = None if off is None else str(len(header) + off)
    with suppress(RequestError):
        assert isinstance(read_infer("toy", "", body, length, LIMITS), InferRequest)


@FEW
@given(st.binary(max_size=60), st.sampled_from([None, "0", "2", "60", "x", "²"]))
def test_any_bytes_are_read_or_are_a_request_error(body: bytes, length: str | None) -> None:
    with suppress(RequestError):
        read_infer("toy", "", body, length, LIMITS)
