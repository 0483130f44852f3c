"""Folders: every one gives the state that the encode graph gives for the same window."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.age import NUM_AGES, age_buckets
from models.contract.state_spec import TensorSpec
from models.live.ages import Ages
from models.live.by_item import NEWER, ByItem
from models.live.fold import ReEncode, Task
from models.live.profile import LENGTH_SCALE
from models.live.window import Window
from tests.builds import Builds
from tests.cases import SCHEMA, Case
from tests.models.live.graphs import encode_of, tasks

GAP_S = 7_000
BY_ITEM = [Case("lrea", label) for label in ("items", "activity", "counted", "phi")]


def by_item(builds: Builds, case: Case) -> tuple[ByItem, ReEncode]:
    manifest = builds.artifact(case).manifest
    encode = encode_of(builds.artifact(case))
    activity = int(manifest.config.get("activity", 0))
    heads = int(manifest.config["heads"])
    schema, spec = manifest.schema, manifest.state_spec
    folder = ByItem(schema, spec, encode, Ages(GAP_S), heads=heads, activity=activity)
    return folder, ReEncode(schema, spec, encode, Ages(GAP_S))


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


@pytest.mark.parametrize("length", [24, 2000])
def test_totals_of_many_small_weights_are_right_to_a_millionth(length):
    """A graph as the exporter writes it, which rounds 1 + total, with events that add 0.0003 each to a total."""
    schema = replace(SCHEMA, history_length=length)
    worth = np.exp(np.linspace(0, -8, NUM_AGES)).astype(np.float32)
    spec = (
        TensorSpec("profile", (2,)),
        TensorSpec("slot_items", (4,), "int32", filled="first", ids="rows"),
        TensorSpec("slot_sums", (4, 1), filled="first"),
    )

    def encode(feed):
        is_event = feed["history"] > 0  # sums are added one event after the other
        weights = worth[feed["ages"]] * is_event
        total, count = np.cumsum(weights, 1)[:, -1], is_event.sum(1).astype(np.float32)
        profile = np.log(np.float32(1) + np.stack([total, count], 1)) / np.float32(LENGTH_SCALE)
        items, sums = [], []
        for rows, own in zip(feed["history"], weights, strict=True):
            known = np.unique(rows[rows > 0])
            of = np.array([np.cumsum(own[rows == row])[-1] for row in known], np.float32)
            last = np.array([np.flatnonzero(rows == row)[-1] for row in known], np.float32)
            order = np.argsort(-(of + np.float32(NEWER / length) * last), kind="stable")[:4]
            items.append(np.pad(known[order], (0, 4 - len(order))))
            sums.append(np.pad(of[order], (0, 4 - len(order)))[:, None])
        return [profile, np.stack(items).astype(np.int32), np.stack(sums)]

    folder = ByItem(schema, spec, encode, Ages(0), heads=1, activity=1)
    rng = np.random.default_rng(1)
    ts_s = np.sort(rng.integers(0, 10**9, length))
    window = Window(rng.integers(2, 6, length), ts_s, 2 * 10**9, 2 * 10**9, 0)
    task = Task("ann", window, np.full(len(schema.user_fields), 1), 1)

    (got,) = folder.fold([task])

    ages = age_buckets(window.as_of_s - ts_s)
    exact = np.log1p(worth[ages].astype(np.float64).sum()) / LENGTH_SCALE
    assert abs(got.state["profile"][0] - exact) <= 1e-6


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
            Ages(0),
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
        ByItem(manifest.schema, manifest.state_spec, other, Ages(0), heads=2, activity=0)
