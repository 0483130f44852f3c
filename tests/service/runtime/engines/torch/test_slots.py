"""Users' states in slots of device memory: the same code on a CPU."""

import threading
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from service.errors import ScoreError
from service.runtime.engines.engine import EngineSlate, State
from service.runtime.engines.torch.engine import TorchEngine
from service.runtime.engines.torch.slots import CHUNK_SLOTS, StateSlots
from tests.service.runtime.engines.torch.models import (
    Shape,
    expected,
    random_model,
    random_slate,
    random_state,
    weights_of,
)

MODEL = random_model(Shape())
SIZES = weights_of(MODEL)[1]


def test_a_state_is_read_back_as_it_was_written():
    slots = StateSlots(SIZES, "cpu")
    state = random_state(MODEL, 11, np.random.default_rng(0))

    held = slots.write(state)

    assert set(held) == set(state)
    for name, values in state.items():
        np.testing.assert_array_equal(held[name], values)
        assert held[name].dtype == values.dtype


def test_a_slot_is_free_only_when_its_last_holder_is_gone():
    slots = StateSlots(SIZES, "cpu")
    state = random_state(MODEL, 3, np.random.default_rng(0))
    cached = slots.write(state)
    none = np.zeros(0, np.int64)
    scoring = EngineSlate(cached, none, none, none, none)
    place = cached.words.data_ptr()

    del cached  # evicted while a call reads it
    others = [slots.write(state) for _ in range(CHUNK_SLOTS + 3)]
    assert place not in {other.words.data_ptr() for other in others}
    assert len({other.words.data_ptr() for other in others}) == len(others)

    free = slots.num_free
    del scoring
    assert slots.num_free == free + 1


def test_freed_slots_are_used_again_before_memory_grows():
    slots = StateSlots(SIZES, "cpu")
    state = random_state(MODEL, 3, np.random.default_rng(0))
    for _ in range(3 * CHUNK_SLOTS):
        slots.write(state)

    assert slots.num_slots == slots.num_free == CHUNK_SLOTS


def test_a_state_that_cannot_be_scored_takes_no_slot():
    slots = StateSlots(SIZES, "cpu")
    state = random_state(MODEL, 3, np.random.default_rng(0))
    state["slot_items"][0] = -1

    with pytest.raises(ScoreError, match="slot_items: got a row beyond the catalogue's 60"):
        slots.write(state)

    assert slots.num_slots == slots.num_free


def test_another_engines_slot_is_copied():
    rng = np.random.default_rng(1)
    first, second = (
        TorchEngine(*weights_of(MODEL), "cpu", is_eager=True, buckets=(1,)) for _ in range(2)
    )
    slate = random_slate(MODEL, 7, 4, rng)
    held = EngineSlate(
        first.memory.write(slate.state), slate.recent, slate.context, slate.items, slate.fields
    )

    (logits,) = second.score_many([held])

    assert not isinstance(logits, ScoreError)
    np.testing.assert_allclose(logits, expected(MODEL, slate), atol=2e-5)


def test_slots_written_and_freed_while_others_score_keep_every_score():
    """Writers reuse slots as fast as they can; no score may see another user's state."""
    rng = np.random.default_rng(2)
    engine = TorchEngine(*weights_of(MODEL), "cpu", is_eager=True, buckets=(1, 2))
    slates = [random_slate(MODEL, filled, 3, rng) for filled in (1, 12, 24)]
    cache: list[State] = [engine.memory.write(slate.state) for slate in slates]
    is_done = threading.Event()
    differences: list[float] = []

    def write() -> None:
        for turn in count():
            cache[turn % 3] = engine.memory.write(slates[turn % 3].state)
            if is_done.is_set():
                return

    def score() -> None:
        for turn in range(60):
            slate = slates[turn % 3]
            (logits,) = engine.score_many([replace(slate, state=cache[turn % 3])])
            assert not isinstance(logits, ScoreError)
            differences.append(float(abs(logits - expected(MODEL, slate)).max()))

    writer = threading.Thread(target=write)
    writer.start()
    readers = [threading.Thread(target=score) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    is_done.set()
    writer.join()
    assert len(differences) == 120
    assert max(differences) < 2e-5
    assert engine.memory.num_slots == CHUNK_SLOTS
