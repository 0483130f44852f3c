"""Quality of smaller records: states pass through a record's bytes; a dtype that cannot hold a state is left out."""

import pytest
import torch

from builder.dataset.batches import BatchSource, Slates, find_slates
from builder.evaluate.metrics.targets import measure
from builder.evaluate.predict import predict
from builder.evaluate.record_quality import measure_record_quality
from builder.ingest.events import Events
from builder.ingest.split import Split
from models.base import CtrModel
from models.contract.record import record_bytes
from models.contract.state_spec import TensorSpec
from tests.builder.hand_made import Event, make_events


class Remembers(CtrModel):
    """Its logit is a number of the state's, near to that of another candidate."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def state_spec(self):
        return (TensorSpec("levels", (1, 64)),)

    def encode(self, user):
        levels = torch.linspace(0, 1, 64).square() * self.scale
        return {"levels": levels.expand(len(user.history), 1, 64)}

    def score(self, state, context, slate):
        return state["levels"][:, 0].gather(1, slate.items)


@pytest.fixture
def test_part() -> tuple[BatchSource, Slates]:
    split = Split(train_from_s=0, validate_from_s=20, test_from_s=30, end_s=60)
    users = [
        [
            Event(second, 2 + (7 * second + user) % 20, (second + user) % 3 == 0)
            for second in range(60)
        ]
        for user in range(20)
    ]
    events: Events = make_events(users, length=8, split=split)
    slates = find_slates(events, "test", min_events=0, max_events=2)
    return BatchSource(events, None, slate_events=2, per_positive=0), slates


def test_fp32_is_what_is_served_and_int8_is_coarser(test_part: tuple[BatchSource, Slates]) -> None:
    source, slates = test_part
    model = Remembers(1.0)

    found = measure_record_quality(model, source, slates)

    plain = measure(*predict(model, source, slates).for_metrics())
    assert (found["fp32"].auc, found["fp32"].log_loss) == (plain.auc, plain.log_loss)
    assert list(found) == ["fp32", "fp16", "int8"]
    assert found["int8"].log_loss != found["fp16"].log_loss != found["fp32"].log_loss
    assert found["int8"].auc != plain.auc  # the lowest levels are one to it
    recent = source.events.schema.recent_length
    for dtype, stored in found.items():
        assert stored.bytes == record_bytes(model.state_spec(), dtype, 16, recent)


def test_a_dtype_that_cannot_hold_the_state_is_left_out(
    test_part: tuple[BatchSource, Slates],
) -> None:
    assert list(measure_record_quality(Remembers(1e6), *test_part)) == ["fp32", "int8"]
