"""States that are sums: what entered and left is added and taken away, within a stated bound in each dtype."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contract.artifact import EVENT, Manifest
from models.contract.record import UserRecord, decode_record, encode_record
from models.contract.state_spec import Array, RecordDtype, StateSpec
from models.live.additive import MAX_FOLDS, Additive, is_additive
from models.live.ages import Ages
from models.live.choose import choose_folder
from models.live.compare import require_equal
from models.live.fold import ReEncode, Task
from models.live.window import Window
from tests.builds import Builds
from tests.cases import Case
from tests.models.live.graphs import encode_of

SUMS = [Case("mean_pool", "default"), Case("linear_attention", "default"), Case("lrea", "features")]
CUT_S = 10**8
STEP: dict[RecordDtype, float] = {"fp32": 2.0**-23, "fp16": 2.0**-11}
"""Largest rounding of a number by one store, relative to the largest number that it ever was."""


def folders(builds: Builds, case: Case) -> tuple[Additive, ReEncode]:
    artifact = builds.artifact(case)
    encode, event = encode_of(artifact), encode_of(artifact, EVENT)
    folder = choose_folder(artifact.manifest, encode, event)
    assert isinstance(folder, Additive)
    manifest = artifact.manifest
    ages = Ages(manifest.request_gap_s, from_cut=True)
    return folder, ReEncode(manifest.schema, manifest.state_spec, encode, ages)


@pytest.mark.parametrize("dtype", STEP)
@pytest.mark.parametrize("case", SUMS, ids=str)
def test_folding_event_by_event_stays_within_the_bound(builds, case, dtype):
    """As many folds as are allowed, through stored records, against one encode of the same window."""
    folder, graph = folders(builds, case)
    manifest = builds.artifact(case).manifest

    @settings(max_examples=10)
    @given(st.integers(0, 2**32 - 1), st.integers(1, manifest.schema.history_length))
    def check(seed, start):
        tasks = list(growing(manifest, seed, start, 1 + MAX_FOLDS[dtype]))
        record, largest = fold_all(folder, tasks, manifest.state_spec, dtype)
        (expected,) = graph.encode_all(tasks[-1:])
        assert folds_of(record) == MAX_FOLDS[dtype]
        for name, values in expected.items():
            bound = 2e-6 * np.maximum(1, np.abs(values))
            if name != "profile":
                bound = bound + (1 + MAX_FOLDS[dtype]) * STEP[dtype] * largest[name]
            assert (np.abs(record.state[name] - values) <= bound).all(), name

    check()


def growing(manifest: Manifest, seed: int, start: int, number: int) -> Iterator[Task]:
    """Windows of a user, each with one event more, from `start` events on."""
    rng, schema = np.random.default_rng(seed), manifest.schema
    size = start + number
    rows, ts_s = rng.integers(1, schema.num_items, size), np.sort(rng.integers(0, CUT_S + 9, size))
    fields = np.ones(len(schema.user_fields), np.int64)
    for end in range(start, size):
        latest = slice(max(0, end - schema.history_length), end)
        yield Task("ann", Window(rows[latest], ts_s[latest], CUT_S, CUT_S, 0), fields, 1)


def fold_all(
    folder: Additive, tasks: list[Task], spec: StateSpec, dtype: RecordDtype
) -> tuple[UserRecord, dict[str, Array]]:
    """The record after the last task, each made of the stored one before; and the largest number of each row so far."""
    (record,), before = folder.fold(tasks[:1]), tasks[0].window
    largest: dict[str, Array] = {}
    for task in tasks[1:]:
        raw = encode_record(record, spec, "0" * 32, dtype)
        stored = decode_record(raw, spec, "0" * 32)
        for name, values in stored.state.items():
            now = np.abs(values).max(-1, keepdims=True)
            largest[name] = np.maximum(largest.get(name, now), now)
        (record,) = folder.fold([replace(task, record=stored, before=before)])
        before = task.window
    return record, largest


def folds_of(record: UserRecord) -> int:
    assert record.mark is not None
    return record.mark.folds


def test_a_state_of_another_window_is_encoded(builds):
    """The digest tells that the stored state is not the one that the log says."""
    folder, graph = folders(builds, SUMS[0])
    schema = builds.artifact(SUMS[0]).manifest.schema
    fields = np.ones(len(schema.user_fields), np.int64)
    old = Window(np.array([2, 3]), np.array([5, 6]), 9, 9, 0)
    (record,) = folder.fold([Task("ann", old, fields, 1)])
    new = Window(np.array([2, 3, 4]), np.array([5, 6, 7]), 9, 9, 0)

    (added,) = folder.fold([Task("ann", new, fields, 2, record, old)])
    other = replace(old, rows=np.array([2, 4]))
    (encoded,) = folder.fold([Task("ann", new, fields, 2, record, other)])
    later = replace(new, cut_s=100)
    (aged,) = folder.fold([Task("ann", later, fields, 2, record, old)])

    assert (folds_of(added), folds_of(encoded), folds_of(aged)) == (1, 0, 0)
    (expected,) = graph.encode_all([Task("ann", new, fields, 2)])
    for name, values in expected.items():
        np.testing.assert_allclose(added.state[name], values, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(encoded.state[name], values, rtol=1e-6, atol=1e-6)


def test_only_sums_are_additive(builds):
    for case in SUMS:
        assert is_additive(builds.artifact(case).manifest.state_spec)
        assert EVENT in builds.artifact(case).manifest.files
    for case in (Case("lrea", "items"), Case("lrea", "hash"), Case("deep_fm", "enhanced")):
        assert not is_additive(builds.artifact(case).manifest.state_spec)
        assert EVENT not in builds.artifact(case).manifest.files


def test_long_sums_are_compared_by_their_largest_number():
    """Of 2,000 terms that cancel, rounding leaves more than 1e-5 of the number, and less of the largest one."""

    def record(*sums: float) -> UserRecord:
        state = {"sums": np.array(sums, np.float32)}
        return UserRecord("ann", 0, np.zeros(0, np.int32), state)

    graphs, mine, wrong = record(600.0, 0.5), record(600.001, 0.4992), record(600.0, 0.4)
    require_equal([mine], [graphs], 1e-5, are_sums=True)
    with pytest.raises(ValueError, match="sums"):
        require_equal([mine], [graphs], 1e-5)
    with pytest.raises(ValueError, match="sums"):
        require_equal([wrong], [graphs], 1e-5, are_sums=True)
    with pytest.raises(ValueError, match="sums"):
        require_equal([record(np.nan, 0.5)], [graphs], 1e-5, are_sums=True)
