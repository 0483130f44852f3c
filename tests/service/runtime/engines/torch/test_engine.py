"""The engine in plain torch, and its kernels in Triton's interpreter, against the model."""

import os
import threading

import numpy as np
import pytest
import torch

from service.errors import ScoreError
from service.runtime.engines.engine import EngineSlate
from service.runtime.engines.torch.engine import TorchEngine
from tests.service.runtime.engines.torch.models import (
    Shape,
    expected,
    random_model,
    random_slate,
    weights_of,
)

SHAPES = {
    "usual": Shape(),
    "one of each": Shape(slots=1, heads=1, recent=1, fields=1, context=1, users=1, activity=0),
    "no fields": Shape(fields=0, context=0, users=0),
    "more than a tile of slots": Shape(slots=59, recent=33, heads=4),
    "odd widths": Shape(item_dim=7, field_dim=3, mlp=(21, 9)),
    "fields beside the vector": Shape(unmatched=True),
}
KINDS = ["eager", "kernels"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "kernels":
        pytest.importorskip("triton", reason="Triton is not installed: no kernels, no interpreter")
        if os.environ.get("TRITON_INTERPRET") != "1":
            pytest.skip("the interpreter needs TRITON_INTERPRET=1 before Triton is imported")
    return str(request.param)


def engine_of(model, kind: str, buckets: tuple[int, ...] = (1, 2, 4, 8)) -> TorchEngine:
    return TorchEngine(*weights_of(model), "cpu", is_eager=kind == "eager", buckets=buckets)


def check(engine: TorchEngine, model, slates: list[EngineSlate]) -> None:
    results = engine.score_many(slates)
    assert len(results) == len(slates)
    for slate, logits in zip(slates, results, strict=True):
        assert not isinstance(logits, ScoreError)
        assert np.isfinite(logits).all()
        np.testing.assert_allclose(logits, expected(model, slate), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_logits_are_the_models(kind: str, shape: Shape):
    model, rng = random_model(shape), np.random.default_rng(1)
    slates = [
        random_slate(model, shape.slots, 1, rng),
        random_slate(model, shape.slots // 2, 65, rng),
    ]

    check(engine_of(model, kind), model, slates)


def test_every_number_of_filled_slots_and_of_latest_items(kind: str):
    model, rng = random_model(Shape(slots=34)), np.random.default_rng(2)
    slates = [random_slate(model, filled, 3, rng, filled % 8) for filled in (0, 1, 31, 32, 33, 34)]

    check(engine_of(model, kind), model, slates)


def test_a_hole_between_slots_has_no_weight(kind: str):
    model, rng = random_model(Shape()), np.random.default_rng(3)
    slate = random_slate(model, 20, 7, rng)
    slate.state["slot_items"][3:9] = 0

    check(engine_of(model, kind), model, [slate])


def test_padding_and_unknown_items_score_as_in_the_model(kind: str):
    model, rng = random_model(Shape()), np.random.default_rng(4)
    slate = random_slate(model, 9, 4, rng)
    slate.items[:] = [0, 1, 2, 59]

    check(engine_of(model, kind), model, [slate])


def test_what_earlier_slates_left_changes_nothing(kind: str):
    model, rng = random_model(Shape()), np.random.default_rng(5)
    engine = engine_of(model, kind, (4,))
    slates = [random_slate(model, filled, 64, rng, 5) for filled in (24, 23, 22, 21)]
    check(engine, model, slates)

    check(engine, model, [random_slate(model, 0, 2, rng, 0)])


def test_more_slates_than_one_launch_takes_and_longer_ones(kind: str):
    model, rng = random_model(Shape()), np.random.default_rng(6)
    engine = engine_of(model, kind, (1, 2))
    lengths = [1, 300, 64, 65, 2] if kind == "kernels" else [1, 300, 64, 65, *[2] * 40]

    check(engine, model, [random_slate(model, 5, length, rng) for length in lengths])


def test_a_state_beyond_the_catalogue_fails_alone(kind: str):
    model, rng = random_model(Shape()), np.random.default_rng(7)
    slates = [random_slate(model, 5, 3, rng) for _ in range(3)]
    slates[1].state["slot_items"][2] = 60

    first, error, last = engine_of(model, kind).score_many(slates)

    assert isinstance(error, ScoreError)
    assert "slot_items: got a row beyond the catalogue's 60" in str(error)
    for logits, slate in ((first, slates[0]), (last, slates[2])):
        assert not isinstance(logits, ScoreError)
        np.testing.assert_allclose(logits, expected(model, slate), atol=2e-5)


def test_slots_of_the_device_and_states_of_the_host_score_together(kind: str):
    model, rng = random_model(Shape()), np.random.default_rng(8)
    engine = engine_of(model, kind)
    slates = [random_slate(model, filled, 5, rng) for filled in (3, 24, 0)]
    held = EngineSlate(
        engine.memory.write(slates[1].state),
        slates[1].recent,
        slates[1].context,
        slates[1].items,
        slates[1].fields,
    )

    check(engine, model, [slates[0], held, slates[2]])


def test_threads_get_their_own_scores(kind: str):
    model, rng = random_model(Shape()), np.random.default_rng(9)
    engine = engine_of(model, kind)
    slates = [random_slate(model, filled, 3, rng) for filled in (2, 9, 24)]
    errors: list[BaseException] = []

    def score(slate: EngineSlate) -> None:
        try:
            for _ in range(3):
                check(engine, model, [slate])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=score, args=(slate,)) for slate in slates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.parametrize("seed", range(3))
def test_random_sizes(kind: str, seed: int):
    rng = np.random.default_rng(seed)
    heads, slots = int(rng.integers(1, 5)), int(rng.integers(1, 58))
    shape = Shape(
        slots=slots,
        heads=heads,
        recent=int(rng.integers(1, 40)),
        item_dim=int(rng.integers(1, 20)),
        field_dim=int(rng.integers(1, 9)),
        fields=int(rng.integers(0, 3)),
        context=int(rng.integers(0, 3)),
        users=int(rng.integers(0, 3)),
        activity=int(rng.integers(0, 3)),
        mlp=(int(rng.integers(1, 40)), int(rng.integers(1, 20))),
        unmatched=bool(rng.integers(2)),
    )
    model = random_model(shape, seed)
    slates = [
        random_slate(model, int(rng.integers(0, slots + 1)), int(rng.integers(1, 90)), rng, n)
        for n in range(3)
    ]

    check(engine_of(model, kind), model, slates)


def test_torch_is_exact_enough_to_be_the_reference():
    assert torch.get_float32_matmul_precision() == "highest"
