"""SUAN: candidates in one pass over the cached state score as in a pass of their own."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.batch import Batch, Slate, User
from models.blocks.reading import Candidates, Read
from models.sequence.suan import SUAN
from tests.cases import random_batch
from tests.models.arrange import suan


def one_by_one(model: SUAN, batch: Batch) -> Tensor:
    """Logits with a separate pass over the events for each candidate."""
    user = batch.user
    length = model.length
    state = {
        "profile": model.frame.encode_profile(
            User(user.history[:, -length:], user.ages[:, -length:], user.fields)
        ),
        "rows": user.history[:, -length:],
        "event_ages": user.ages[:, -length:],
    }
    look_up = model.frame.items.look_up(batch.slate.items.numel())
    candidates = Candidates(batch.slate.items, look_up(batch.slate.items))
    long = model.target_rows_one_by_one(state, candidates.vectors)
    read = Read(long[..., :0], long[:, :, None])
    return model.frame.logits(
        state["profile"], batch.context, batch.slate, candidates, [read], look_up
    )


PREFIX = [
    ("suan", {}),
    ("suan", {"norm": "released"}),
    ("suan", {"length": 5}),
    ("light_suan", {"window": 3, "stride": 4, "target_stride": 0}),
    ("light_suan", {"window": 1, "stride": 3, "target_stride": 0, "norm": "released"}),
    ("light_suan", {"window": 4, "stride": 40, "target_stride": 0}),
    ("light_suan", {"window": 2, "stride": 4}),
    ("suan", {"target_window": 2, "target_stride": 5}),
]


@pytest.mark.parametrize(("name", "config"), PREFIX)
def test_candidates_in_one_pass_score_as_in_a_pass_each(name: str, config):
    model, batch = suan(name, **config), random_batch()
    packed = model(batch.user, batch.context, batch.slate)
    torch.testing.assert_close(packed, one_by_one(model, batch), rtol=0, atol=1e-9)
    order = [4, 2, 0, 1, 3]
    shuffled = model(batch.user, batch.context, Slate.of(batch.slate.items[:, order]))
    torch.testing.assert_close(shuffled, packed[:, order], rtol=0, atol=1e-9)


def test_the_state_keeps_the_events_that_a_candidate_attends_to():
    """A candidate may attend to more or to fewer events than events do."""
    dense, sparse = (
        suan("light_suan", window=2, stride=4, target_stride=1),
        suan(target_window=3, target_stride=40),
    )
    assert dense.get_buffer("kept").tolist() == list(range(12))
    assert sparse.get_buffer("kept").tolist() == [10, 11]
    shapes = {tensor.name: tensor.shape for tensor in sparse.state_spec()}
    assert shapes["block_keys"] == (3 * 2, sparse.frame.items.dim)


def test_the_released_gate_needs_a_pass_for_each_candidate():
    """Its events depend on the candidate, so its logits differ from those of a prefix gate."""
    released, prefix, batch = suan(gate="mean"), suan(), random_batch()
    got = released(batch.user, batch.context, batch.slate)
    torch.testing.assert_close(got, one_by_one(released, batch))
    assert (got - prefix(batch.user, batch.context, batch.slate)).abs().max() > 1e-5


@pytest.mark.parametrize(("name", "config"), PREFIX)
def test_an_event_does_not_change_earlier_events(name: str, config):
    """With two other newest events, keys and values of the others are the same. Those of padding are not compared."""
    model, batch = suan(name, **config), random_batch()
    rows = batch.user.history.clone()
    rows[:, -2:] = 7
    before = model.encode(batch.user)
    after = model.encode(User(rows, batch.user.ages, batch.user.fields))
    kept = model.get_buffer("kept")
    earlier = ((kept < model.length - 2) & (before["event_ages"] > 0))[..., None]  # (B, K, 1)
    for name in ("block_keys", "block_values"):
        for old, new in zip(before[name].chunk(3, 1), after[name].chunk(3, 1), strict=True):
            torch.testing.assert_close(old * earlier, new * earlier)
    assert not torch.allclose(before["gate_sums"], after["gate_sums"])


def test_events_beyond_the_length_are_not_read():
    model, batch = suan(length=4), random_batch()
    older = batch.user.history.clone()
    older[:, :-4] = 9
    changed = replace(batch.user, history=older)
    got = model(changed, batch.context, batch.slate)
    torch.testing.assert_close(got, model(batch.user, batch.context, batch.slate))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"blocks": 0}, "blocks: got 0, expected at least 1"),
        ({"stride": 0}, "stride: got 0, expected at least 1"),
        ({"window": -1}, "window: got -1, expected at least 0"),
        ({"block_heads": 5}, "heads: got 5, expected a divisor of an event's width = 12"),
        ({"temperature": 0.0}, r"temperature: got 0\.0, expected more than 0"),
        ({"alpha": -1.0}, r"alpha: got -1\.0, expected 0 or more"),
    ],
)
def test_impossible_sizes_are_refused(config, message: str):
    with pytest.raises(ValueError, match=message):
        suan("light_suan", **config)
