"""The kernel scores as the plan's reference does, with every instruction set of this machine."""

import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.plan import PlanSizes
from service.errors import ScoreError
from service.native.library import Library, open_library
from service.runtime.engines.engine import EngineSlate
from service.runtime.engines.native.engine import ISAS, Isa, NativeEngine, supported_isas
from tests.fuzzing import drawn
from tests.service.runtime.engines.native.plans import (
    DEFAULT,
    TINY_SIZES,
    Shape,
    assert_scores,
    poison,
    probabilities,
    random_plan,
    random_slate,
    with_sizes,
)

each_isa = pytest.mark.parametrize("isa", ISAS)
SHAPES = [
    Shape(1, 150, 32), Shape(2, 0, 0), Shape(5, 1, 1), Shape(6, 63, 32), Shape(7, 64, 31),
    Shape(47, 65, 40), Shape(48, 127, 32), Shape(49, 128, 32), Shape(50, 129, 200), Shape(200, 150, 32),
    Shape(1000, 92, 17), Shape(5000, 37, 3),
]  # fmt: skip


@pytest.fixture(scope="session")
def library(native_library: Path) -> Library:
    return open_library(native_library)


def engine_of(library: Library, isa: Isa, sizes: PlanSizes = DEFAULT) -> NativeEngine:
    if isa not in supported_isas(library):
        pytest.skip(f"this CPU lacks {isa}")
    return NativeEngine(random_plan(sizes), library, isa)


@each_isa
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scores_are_the_references_whatever_the_scratch_holds(
    library: Library, isa: Isa, shape: Shape
):
    engine, plan = engine_of(library, isa), random_plan()
    slate = random_slate(DEFAULT, shape.candidates, shape.filled, shape.recent)
    for _ in range(2):
        poison(engine)
        assert_scores(engine, plan, [slate])


@each_isa
@given(data=st.data())
@drawn(examples=25)
def test_scores_are_the_references_with_any_sizes(library: Library, isa: Isa, data: st.DataObject):
    small = st.integers(1, 9)
    sizes = PlanSizes(
        num_items=data.draw(st.integers(3, 40)),
        widths=tuple(data.draw(st.lists(st.integers(1, 37), min_size=1, max_size=6))),
        described=data.draw(st.integers(0, 20)),
        rank=data.draw(st.integers(1, 140)),
        heads=data.draw(small),
        short_heads=data.draw(small),
        recent=data.draw(st.integers(1, 70)),
        profile=data.draw(st.integers(0, 20)),
        embedding=data.draw(st.integers(1, 7)),
        context=tuple(data.draw(st.lists(small, max_size=3))),
        candidate=tuple(data.draw(st.lists(small, max_size=3))),
        layers=tuple(data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=4))),
        slope=data.draw(st.sampled_from([0.0, 0.1, 1.0, 1.5])),
    )
    engine, plan = engine_of(library, isa, sizes), random_plan(sizes)
    slates = [
        random_slate(
            sizes, data.draw(st.integers(1, 60)), data.draw(st.integers(0, sizes.rank)),
            data.draw(st.integers(0, 80)), data.draw(st.integers(0, 99)),
        )
        for _ in range(2)
    ]  # fmt: skip
    poison(engine)
    assert_scores(engine, plan, slates)


@each_isa
def test_the_smallest_plan_is_scored(library: Library, isa: Isa):
    engine = engine_of(library, isa, TINY_SIZES)
    slates = [random_slate(TINY_SIZES, 1, filled, filled) for filled in (0, 1)]
    assert_scores(engine, random_plan(TINY_SIZES), slates)


@each_isa
def test_a_slate_without_candidates_has_no_logits(library: Library, isa: Isa):
    engine = engine_of(library, isa)
    (logits,) = engine.score_many([random_slate(DEFAULT, 0, 10, 3)])
    assert not isinstance(logits, ScoreError)
    assert logits.shape == (0,)


@each_isa
def test_empty_slots_are_skipped_wherever_they_are(library: Library, isa: Isa):
    engine, plan = engine_of(library, isa), random_plan()
    slate = random_slate(DEFAULT, 30, 100, 32)
    slate.state["slot_items"][3:60:2] = 0  # with sums behind them
    assert_scores(engine, plan, [slate])


@each_isa
def test_reserved_rows_are_scored(library: Library, isa: Isa):
    engine, plan = engine_of(library, isa), random_plan()
    slate = random_slate(DEFAULT, 20, 100, 32)
    slate.state["slot_items"][:9] = 1
    slate = replace(slate, items=np.tile([0, 1], 10), recent=np.tile([1, 0, 5], 20))
    assert_scores(engine, plan, [slate])


@each_isa
def test_exponents_beyond_the_range_of_floats_are_zero_weights(library: Library, isa: Isa):
    plan = random_plan()
    plan.tensors["tau"][:] = 60.0
    if isa not in supported_isas(library):
        pytest.skip(f"this CPU lacks {isa}")
    engine = NativeEngine(plan, library, isa)
    slate = random_slate(DEFAULT, 40, 150, 32)
    slate.state["slot_sums"][::3] = 6e4
    slate.state["slot_sums"][1::3] = 0.0
    assert_scores(engine, plan, [slate])


@each_isa
def test_a_state_that_is_not_finite_gives_no_finite_score(library: Library, isa: Isa):
    """The scorer refuses such logits; the kernel must not hide them."""
    engine = engine_of(library, isa)
    for name in ("slot_sums", "profile"):
        slate = random_slate(DEFAULT, 20, 70, 8)
        slate.state[name].flat[0] = np.nan
        (logits,) = engine.score_many([slate])
        assert not isinstance(logits, ScoreError)
        assert not np.isfinite(logits).any()
        assert_scores(engine, random_plan(), [random_slate(DEFAULT, 20, 70, 8)])


@each_isa
def test_users_of_one_call_do_not_see_each_other(library: Library, isa: Isa):
    engine = engine_of(library, isa)
    slates = [random_slate(DEFAULT, 1 + 13 * n, 20 * n, 9 * n, seed=n) for n in range(7)]
    together = engine.score_many(slates)
    for one, slate in zip(together, slates, strict=True):
        (alone,) = engine.score_many([slate])
        np.testing.assert_array_equal(alone, one)
    assert_scores(engine, random_plan(), slates)


@each_isa
def test_threads_score_at_once(library: Library, isa: Isa):
    engine = engine_of(library, isa)
    slates = [random_slate(DEFAULT, 60, 30 * n, 32, seed=n) for n in range(5)]
    alone = engine.score_many(slates)
    failures: list[str] = []

    def score_often(shift: int) -> None:
        for turn in range(40):
            at = (turn + shift) % len(slates)
            (logits,) = engine.score_many([slates[at]])
            if not np.array_equal(logits, alone[at]):  # type: ignore[arg-type]
                failures.append(f"slate {at}")

    threads = [threading.Thread(target=score_often, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def with_state(slate: EngineSlate, name: str, values: np.ndarray) -> EngineSlate:
    return replace(slate, state={**slate.state, name: values})


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("slot_items", {"slot_items": np.full(DEFAULT.rank, 300, np.int32)}),
    ("slot_items", {"slot_items": np.full(DEFAULT.rank, -1, np.int32)}),
    ("slot_items", {"slot_items": np.zeros(DEFAULT.rank - 1, np.int32)}),
    ("slot_sums", {"slot_sums": np.zeros((DEFAULT.rank, 3), np.float32)}),
    ("profile", {"profile": np.zeros(8, np.float32)}),
    ("recent", {"recent": np.array([5, 300])}),
    ("recent", {"recent": np.array([-1])}),
    ("recent", {"recent": np.array([[5]])}),
    ("context", {"context": np.array([26, 0])}),
    ("context", {"context": np.array([0, -1])}),
    ("context", {"context": np.array([0])}),
    ("items", {"items": np.array([0, 300, 1])}),
    ("items", {"items": np.array([0, -1, 1])}),
    ("items", {"items": np.array([0, 1 << 62, 1])}),
    ("candidate fields", {"fields": np.array([[0, 0], [0, 4], [0, 0]])}),
    ("candidate fields", {"fields": np.array([[0, 0], [-1, 0], [0, 0]])}),
    ("fields", {"fields": np.zeros((2, 2), np.int64)}),
]


@each_isa
@pytest.mark.parametrize(("name", "changes"), WRONG, ids=lambda v: v if isinstance(v, str) else "")
def test_ids_and_shapes_that_do_not_fit_are_refused_alone(
    library: Library, isa: Isa, name: str, changes: dict[str, Any]
):
    engine, good = engine_of(library, isa), random_slate(DEFAULT, 3, 40, 5)
    state = {key: changes.get(key, values) for key, values in good.state.items()}
    own = {key: values for key, values in changes.items() if key not in state}
    before, refused, after = engine.score_many([good, replace(good, state=state, **own), good])
    assert isinstance(refused, ScoreError)
    assert f"{name}: got" in str(refused)
    np.testing.assert_array_equal(before, after)
    assert_scores(engine, random_plan(), [good])


def test_rows_before_the_latest_do_not_count(library: Library):
    engine = engine_of(library, "generic")
    slate = random_slate(DEFAULT, 5, 20, 40)
    slate.recent[:8] = 10**9
    assert_scores(engine, random_plan(), [slate])


def test_other_dtypes_and_layouts_are_copied(library: Library):
    engine, slate = engine_of(library, "generic"), random_slate(DEFAULT, 30, 60, 32)
    (usual,) = engine.score_many([slate])
    other = EngineSlate(
        {
            "slot_items": slate.state["slot_items"].astype(np.int64),
            "slot_sums": np.asfortranarray(slate.state["slot_sums"].astype(np.float64)),
            "profile": np.repeat(slate.state["profile"], 2)[::2],
        },
        slate.recent.astype(np.int32),
        slate.context.astype(np.int32),
        slate.items[::-1].copy()[::-1],
        np.asfortranarray(slate.fields),
    )
    (got,) = engine.score_many([other])
    np.testing.assert_array_equal(got, usual)


def test_a_closed_engine_scores_no_more(library: Library):
    engine = engine_of(library, "generic")
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="after close"):
        engine.score_many([random_slate(DEFAULT, 3, 3, 3)])


def test_a_closed_engine_frees_its_plan_and_its_scratch(library: Library):
    engine = engine_of(library, "generic")
    engine.score_many([random_slate(DEFAULT, 3, 3, 3)])
    plan, scratch = weakref.ref(engine._plan), weakref.ref(engine._scratch())
    assert (plan(), scratch()) != (None, None)
    engine.close()
    assert (plan(), scratch()) == (None, None)


def test_the_fastest_instruction_set_is_taken_and_others_are_named(library: Library):
    assert NativeEngine(random_plan(), library).isa == supported_isas(library)[-1]
    with pytest.raises(ValueError, match="instruction set: got 'sse9', expected one of"):
        NativeEngine(random_plan(), library, "sse9")  # type: ignore[arg-type]


def test_parts_are_timed(library: Library):
    engine = engine_of(library, "generic", with_sizes(rank=20))
    logits, seconds = engine.timed(random_slate(with_sizes(rank=20), 300, 20, 9))
    assert probabilities(logits).shape == (300,)
    assert (seconds > 0).all()
