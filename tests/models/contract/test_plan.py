"""The plan round-trips; what is torn, foreign, of another shape or not finite is refused by name."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from models.contract.errors import ArtifactError
from models.contract.plan import (
    ItemSlotsPlan,
    PlanSizes,
    plan_from_bytes,
    plan_to_bytes,
    state_spec_of,
)
from models.contract.schema import FeatureSchema, Field
from tests.fuzzing import drawn

SIZES = PlanSizes(
    num_items=7, widths=(3, 2), described=2, rank=5, heads=2, short_heads=1, recent=3, profile=4,
    embedding=2, context=(4, 3), candidate=(5,), layers=(6, 4), slope=0.1,
)  # fmt: skip
SCHEMA = FeatureSchema(
    item_fields=(Field("item", 7),),
    user_fields=(),
    context_fields=(Field("a", 4), Field("b", 3)),
    num_items=7,
    history_length=9,
    recent_length=3,
    candidate_fields=(Field("c", 5),),
)


def plan(sizes: PlanSizes = SIZES) -> ItemSlotsPlan:
    rng = np.random.default_rng(0)
    shapes = sizes.shapes().items()
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes}
    return ItemSlotsPlan(sizes, tensors, "ab" * 32)


def with_metadata(**changes: str | None) -> bytes:
    raw = plan_to_bytes(plan())
    size = int.from_bytes(raw[:8], "little")
    metadata = json.loads(raw[8 : 8 + size])["__metadata__"] | changes
    kept = {key: value for key, value in metadata.items() if value is not None}
    return save(load(raw), kept)


def with_sizes(**changes: Any) -> bytes:
    values = json.loads(json.dumps(SIZES.__dict__)) | changes
    return with_metadata(sizes=json.dumps(values))


def test_a_plan_round_trips() -> None:
    original = plan()
    back = plan_from_bytes(plan_to_bytes(original))
    assert (back.sizes, back.score_sha256) == (original.sizes, original.score_sha256)
    assert back.tensors.keys() == original.tensors.keys()
    for name, values in original.tensors.items():
        np.testing.assert_array_equal(back.tensors[name], values)


def test_a_torn_plan_is_refused_wherever_it_ends() -> None:
    raw = plan_to_bytes(plan())
    for end in (0, 1, 7, 8, 9, 100, len(raw) // 2, len(raw) - 1):
        with pytest.raises(ArtifactError, match="plan: not a safetensors file"):
            plan_from_bytes(raw[:end])
    with pytest.raises(ArtifactError, match="plan: not a safetensors file"):
        plan_from_bytes(b"\xff" * 64)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (with_metadata(format="2"), r"plan: format: got '2', expected '1'"),
        (with_metadata(kind="phi"), r"plan: kind: got 'phi', expected 'item-slots-kernel'"),
        (with_metadata(kind=None), r"plan: kind: got None"),
        (with_metadata(sizes="{"), "plan: sizes: "),
        (with_metadata(sizes=None), "plan: sizes: got None"),
        (with_metadata(sizes='{"rank": 1, "rank": 2}'), "twice"),
        (with_sizes(rank=0), "rank: got 0, expected sizes from 1"),
        (with_sizes(heads=True), "heads: got True"),
        (with_sizes(widths=[]), r"widths: got \[\]"),
        (with_sizes(layers=[6, -4]), "layers: got"),
        (with_sizes(context=3), "context: got 3"),
        (with_sizes(slope=float("inf")), "slope: got inf"),
        (with_sizes(described=1 << 40), "described: got"),
        (with_sizes(other=1), "expected all of PlanSizes and nothing else"),
        (with_sizes(heads=3), r"plan: tau: got float32 \(2, 2\), expected float32 \(3, 2\)"),
        (with_sizes(layers=[6]), "plan: tensors: got"),
    ],
)
def test_what_does_not_fit_is_named(raw: bytes, expected: str) -> None:
    with pytest.raises(ArtifactError, match=expected):
        plan_from_bytes(raw)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_both_halves(value: float) -> None:
    broken = plan()
    broken.tensors["layer.1"][2, 3] = value
    with pytest.raises(ArtifactError, match=r"plan: layer\.1: got a value that is not finite"):
        plan_to_bytes(broken)
    raw = bytearray(plan_to_bytes(plan()))
    raw[-4:] = np.float32(value).tobytes()
    with pytest.raises(ArtifactError, match="not finite"):
        plan_from_bytes(bytes(raw))


def test_another_dtype_is_refused() -> None:
    broken = plan()
    tensors: dict[str, Any] = {**broken.tensors, "wide": broken.tensors["wide"].astype(np.float64)}
    with pytest.raises(ArtifactError, match="plan: wide: got float64"):
        plan_to_bytes(replace(broken, tensors=tensors))


def test_a_plan_fits_its_artifact_alone() -> None:
    good, spec, digest = plan(), state_spec_of(SIZES), "ab" * 32
    good.check(SCHEMA, spec, digest)
    with pytest.raises(ArtifactError, match="plan: score_sha256: got 'abab"):
        good.check(SCHEMA, spec, "cd" * 32)
    for changed, name in (
        (replace(SCHEMA, num_items=8), "num_items"),
        (replace(SCHEMA, recent_length=4), "recent"),
        (replace(SCHEMA, context_fields=(Field("a", 4),)), "context"),
        (replace(SCHEMA, candidate_fields=()), "candidate"),
    ):
        with pytest.raises(ArtifactError, match=f"plan: {name}: got"):
            good.check(changed, spec, digest)
    with pytest.raises(ArtifactError, match="plan: state: got"):
        good.check(SCHEMA, spec[:2], digest)


RAW = plan_to_bytes(plan())
HEADER_END = 8 + int.from_bytes(RAW[:8], "little")


@given(data=st.data())
@drawn(examples=300)
def test_damaged_bytes_are_refused_or_a_whole_plan(data: st.DataObject) -> None:
    """Most damage is in the header, where names, shapes, offsets and sizes are."""
    raw = bytearray(RAW)
    for _ in range(data.draw(st.integers(1, 4))):
        end = data.draw(st.sampled_from([8, HEADER_END, HEADER_END, len(raw)]))
        raw[data.draw(st.integers(0, end - 1))] = data.draw(
            st.sampled_from(b'0123456789[]{},:"abFIx\xff')
        )
    try:
        back = plan_from_bytes(bytes(raw))
    except ArtifactError:
        return
    assert {name: values.shape for name, values in back.tensors.items()} == back.sizes.shapes()
    assert all(np.isfinite(values).all() for values in back.tensors.values())
