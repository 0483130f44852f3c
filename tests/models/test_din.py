"""DIN against its equation over the events, one by one."""

import torch

from models.registry import build_model
from models.sequence.din import DIN
from tests.cases import SCHEMA, SIZES, item_fields, random_batch
from tests.models.test_target_attention import by_loops


def din(**config: object) -> DIN:
    model = build_model("din", SCHEMA, item_fields(), {**SIZES, **config})
    assert isinstance(model, DIN)
    return model.double().eval()


def test_long_din_is_the_equation_over_every_event():
    model, batch = din(), random_batch()
    assert model.long is not None
    assert model.long.w_s is not None
    assert model.ages is not None
    events, target = model.frame.items(batch.user.history), model.frame.items(batch.slate.items)
    bias = model.ages(batch.user.ages) @ model.long.w_s
    long = by_loops(model.long, target, events, events, bias) / SCHEMA.history_length**0.5
    profile = model.frame.profile(batch.user.fields)
    expected = model.frame.logits(profile, batch.context, target, long)
    torch.testing.assert_close(model(batch.user, batch.context, batch.slate), expected)


def test_its_state_is_the_history_itself():
    model, batch = din(), random_batch()
    state = model.encode(batch.user)
    assert torch.equal(state["events"], model.frame.items(batch.user.history))


def test_without_the_long_history_only_the_profile_is_kept():
    model = din(long=False)
    assert [tensor.name for tensor in model.state_spec()] == ["profile"]
    assert not [name for name, _ in model.named_parameters() if name.startswith("long")]
    assert din().frame.head.candidate.in_features > model.frame.head.candidate.in_features
