"""DIN against its equation over the events, one by one."""

import pytest
import torch

from models.blocks.match_counts import MatchCounts
from models.registry import build_model
from models.sequence.din import DIN
from tests.cases import SCHEMA, SIZES, item_fields, random_batch
from tests.models.blocks.test_target_attention import by_loops


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


def test_matches_are_counted_in_the_whole_history():
    """Against a loop: events that share the candidate's row, or its category; unknown values match nothing."""
    fields, batch = item_fields(), random_batch(candidates=20)
    counted = MatchCounts(fields, SCHEMA.item_fields)(batch.slate.items, batch.user.history)
    assert counted.shape[-1] == 2
    for b, slate in enumerate(batch.slate.items.tolist()):
        past = [row for row in batch.user.history[b].tolist() if row]
        for c, row in enumerate(slate):
            category = int(fields[row, 1])
            same_item = past.count(row) if row > 1 else 0
            same_category = sum(int(fields[e, 1]) == category for e in past) if category > 1 else 0
            expected = torch.tensor([same_item, same_category]).log1p()
            torch.testing.assert_close(counted[b, c], expected)


def test_counts_reach_the_logit_directly_as_well():
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
