"""Sizes of records over a log's users: those of the records that precompute would write."""

import numpy as np
import pytest
import torch

from builder.evaluate.record_sizes import measure_record_sizes
from builder.ingest.events import Events
from models.base import CtrModel
from models.contract.record import USER_ID_BYTES, record_bytes
from models.registry import build_model
from tests.builder.hand_made import Event, make_events

LENGTH, RECENT = 8, 2


@pytest.fixture
def events() -> Events:
    """Users with 0, 3 and 12 clicks, on 0, 2 and 4 items; L = 8. A row that was not clicked is no history."""
    users = [
        [Event(1, 9, 0)],
        [Event(1, 2, 1), Event(2, 3, 1), Event(3, 2, 1), Event(4, 7, 0)],
        [Event(second, 2 + second % 4, 1) for second in range(1, 13)],
    ]
    return make_events(users, length=LENGTH, recent=RECENT)


def untrained(events: Events, name: str, **config: object) -> CtrModel:
    item_fields = torch.from_numpy(np.array(events.item_fields))
    small = {"mlp": [4], "item_dim": 4, "heads": 2, **config}
    return build_model(name, events.schema, item_fields, small).eval()


def test_item_slots_are_counted_by_different_items(events: Events):
    model = untrained(events, "lrea", slots="items", rank=LENGTH)

    found = measure_record_sizes(model, events)

    empty = record_bytes(model.state_spec(), "fp16", USER_ID_BYTES, RECENT, [*profile(model), 0, 0])
    each = 4 + 2 * 2  # a row, and two heads in fp16
    assert found.mean["fp16"] == empty + each * (0 + 2 + 4) // 3
    assert found.largest["fp16"] == empty + each * 4
    assert found.raw == round(8 * (0 + 3 + LENGTH) / 3)


def test_histories_are_counted_by_events(events: Events):
    model = untrained(events, "din", score="kernel")

    found = measure_record_sizes(model, events)

    empty = record_bytes(model.state_spec(), "int8", USER_ID_BYTES, RECENT, [*profile(model), 0, 0])
    assert found.mean["int8"] == round(empty + 8 * (0 + 3 + LENGTH) / 3)
    assert found.largest["int8"] == empty + 8 * LENGTH


def test_a_state_of_fixed_size_has_one_size(events: Events):
    model = untrained(events, "lrea", slots="hash", rank=4)

    found = measure_record_sizes(model, events)

    for dtype, size in found.mean.items():
        assert size == found.largest[dtype]
        assert size == record_bytes(model.state_spec(), dtype, USER_ID_BYTES, RECENT)


def profile(model: CtrModel) -> list[int]:
    (first, *_) = model.state_spec()
    return [first.num_rows]
