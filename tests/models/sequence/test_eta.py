"""ETA: its search against sorting by Hamming distance, its attention against loops; in float64."""

import pytest
import torch
from torch import Tensor

from models.batch import Batch
from models.registry import build_model
from models.sequence.eta import ETA
from tests.cases import SCHEMA, SIZES, item_fields, random_batch
from tests.reference.sim_hash import bits, buckets, hamming
from tests.reference.two_stage import best, multi_head

L = SCHEMA.history_length


def eta(**config: object) -> ETA:
    model = build_model("eta", SCHEMA, item_fields(), {**SIZES, "k": 3, "num_bits": 20, **config})
    assert isinstance(model, ETA)
    return model.double().eval()


def by_loops(model: ETA, batch: Batch) -> Tensor:
    """The long-history vector of each candidate, [B, C, H·D]."""
    target, events = model.frame.items(batch.slate.items), model.frame.items(batch.user.history)
    rows = torch.cat([events, model.ages(batch.user.ages)], -1)
    planes, attention = model.hash.planes.tolist(), model.attention
    out = []
    for b, history in enumerate(batch.user.history.tolist()):
        signatures = [bits(event, planes) for event in events[b].tolist()]
        for e_t in target[b].tolist():
            near = [-float(hamming(bits(e_t, planes), signature)) for signature in signatures]
            best_events = best(near, [event > 0 for event in history], model.config.k)
            heads = multi_head(
                attention.w_q.tolist(),
                attention.w_k.tolist(),
                attention.heads,
                e_t,
                rows[b, best_events].tolist(),
            )
            out.append(heads)
    return torch.tensor(out, dtype=torch.float64).view(*batch.slate.items.shape, -1)


@pytest.mark.parametrize("num_bits", [2, 20, 33])
@pytest.mark.parametrize("k", [1, 3, L, L + 5])
def test_it_attends_to_the_events_that_sorting_finds(k: int, num_bits: int):
    """With two bits, many distances are equal: of those, the latest events are kept."""
    model, batch = eta(k=k, num_bits=num_bits), random_batch(users=8)
    long = by_loops(model, batch)
    assert not long[0].any()
    profile, target = model.frame.profile(batch.user.fields), model.frame.items(batch.slate.items)
    expected = model.frame.logits(profile, batch.context, target, long)
    torch.testing.assert_close(model(batch.user, batch.context, batch.slate), expected)


@pytest.mark.parametrize("num_bits", [15, 16, 20, 33])
def test_the_state_holds_rows_ages_and_packed_signatures(num_bits: int):
    model, user = eta(num_bits=num_bits), random_batch().user
    state, planes = model.encode(user), model.hash.planes.tolist()
    assert torch.equal(state["rows"], user.history.int())
    assert torch.equal(state["event_ages"], user.ages.int())
    for b, events in enumerate(model.frame.items(user.history).tolist()):
        for place, event in enumerate(events):
            filled = bits(event, planes) + [0] * (-num_bits % 16)
            assert state["signatures"][b, place].tolist() == buckets(filled, 16)


def test_gradients_without_a_history_are_finite():
    model, batch = eta().train(), random_batch(users=1)
    assert not batch.user.history.any()
    model(batch.user, batch.context, batch.slate).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", ["k", "num_bits"])
def test_sizes_below_one_are_refused(name: str):
    with pytest.raises(ValueError, match=f"{name}: got 0, expected at least 1"):
        eta(**{name: 0})
