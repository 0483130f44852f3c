"""DIN against its equation, event by event."""

import pytest
import torch

from models.registry import build_model
from models.sequence.din import DIN
from tests.cases import SCHEMA, SIZES, item_fields, random_batch
from tests.models.arrange import attend_by_loops


def din(**config: object) -> DIN:
    model = build_model("din", SCHEMA, item_fields(), {**SIZES, **config})
    assert isinstance(model, DIN)
    return model.double().eval()


def test_long_din_equals_the_equation():
    model, batch = din(), random_batch()
    assert model.long is not None
    assert model.long.w_s is not None
    assert model.ages is not None
    events, target = model.frame.items(batch.user.history), model.frame.items(batch.slate.items)
    bias = model.ages(batch.user.ages) @ model.long.w_s
    long = attend_by_loops(model.long, target, events, events, bias) / SCHEMA.history_length**0.5
    profile = model.frame.profile(batch.user.fields)
    expected = model.frame.logits(profile, batch.context, target, long)
    torch.testing.assert_close(model(batch.user, batch.context, batch.slate), expected)


def test_the_state_is_the_embedded_history():
    model, batch = din(), random_batch()
    state = model.encode(batch.user)
    assert torch.equal(state["events"], model.frame.items(batch.user.history))


def test_without_the_long_history_only_the_profile_is_kept():
    model = din(long=False)
    assert [tensor.name for tensor in model.state_spec()] == ["profile"]
    assert not [name for name, _ in model.named_parameters() if name.startswith("long")]
    assert din().frame.head.candidate.in_features > model.frame.head.candidate.in_features


def test_counts_are_also_added_to_the_logit_directly():
    model, batch = din(match=True), random_batch()
    assert model.wide is not None
    assert model.match is not None
    before = model(batch.user, batch.context, batch.slate)
    with torch.no_grad():
        model.wide.weight += 1
    counts = model.match(batch.slate.items, batch.user.history)
    after = model(batch.user, batch.context, batch.slate)
    torch.testing.assert_close(after - before, counts.sum(-1).double())


def test_matches_without_a_long_history_are_refused():
    with pytest.raises(ValueError, match="match: got true, expected false: long is false"):
        din(match=True, long=False)
