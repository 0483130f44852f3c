"""Folders: every one gives the state that the encode graph gives for the same window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.live.by_item import LENGTH_SCALE, NEWER, ByItem
from models.live.fold import ReEncode
from tests.builds import Builds
from tests.cases import Case
from tests.models.live.graphs import encode_of, tasks

BY_ITEM = [Case("lrea", label) for label in ("items", "activity", "counted", "phi")]


def by_item(builds: Builds, case: Case) -> tuple[ByItem, ReEncode]:
    manifest = builds.artifact(case).manifest
    encode = encode_of(builds.artifact(case))
    activity = int(manifest.config.get("activity", 0))
    heads = int(manifest.config["heads"])
    folder = ByItem(manifest.schema, manifest.state_spec, encode, heads=heads, activity=activity)
    return folder, ReEncode(manifest.schema, manifest.state_spec, encode)


@pytest.mark.parametrize("case", BY_ITEM, ids=str)
def test_by_item_equals_the_graph_to_a_millionth(builds, case):
    fast, graph = by_item(builds, case)

    @given(st.lists(tasks(builds.artifact(case).manifest.schema), min_size=1, max_size=4))
    def check(windows):
        for got, expected in zip(fast.fold(windows), graph.fold(windows), strict=True):
            assert (got.user_id, got.as_of_s, got.mark) == (
                expected.user_id,
                expected.as_of_s,
                expected.mark,
            )
            np.testing.assert_array_equal(got.recent, expected.recent)
            for name, values in expected.state.items():
                assert got.state[name].dtype == values.dtype
                np.testing.assert_allclose(got.state[name], values, rtol=1e-6, atol=1e-6)

    check()


def test_the_constants_are_those_of_the_models():
    """Copied, since the worker has no torch."""
    from models.blocks import frame
    from models.blocks.lookup import item_runs

    assert (LENGTH_SCALE, NEWER) == (frame.LENGTH_SCALE, item_runs.NEWER)


def test_another_kind_of_state_is_refused(builds):
    manifest = builds.artifact(Case("lrea", "hash")).manifest
    with pytest.raises(ValueError, match="expected profile, slot_items and slot_sums"):
        ByItem(
            manifest.schema,
            manifest.state_spec,
            encode_of(builds.artifact(Case("lrea", "hash"))),
            heads=2,
            activity=0,
        )


def test_a_graph_that_computes_something_else_is_noticed(builds):
    case = Case("lrea", "items")
    manifest, true = builds.artifact(case).manifest, encode_of(builds.artifact(case))

    def other(feed):
        names = [tensor.name for tensor in manifest.state_spec]
        tensors = dict(zip(names, true(feed), strict=True))
        length = (feed["history"] != 0).sum(1)
        factor = np.where(length > 1, 1.01, 1).astype(np.float32)
        tensors["slot_sums"] = tensors["slot_sums"] * factor[:, None, None]
        return [tensors[name] for name in names]

    with pytest.raises(ValueError, match="the encode graph gives other numbers"):
        ByItem(manifest.schema, manifest.state_spec, other, heads=2, activity=0)
