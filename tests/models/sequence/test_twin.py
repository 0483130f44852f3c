"""TWIN against its equations as loops (`tests/reference/two_stage.py`): its search against sorting."""

import pytest
import torch
from torch import Tensor

from models.batch import Batch, User
from models.blocks.top_k import RESOLUTION
from models.registry import build_model
from models.sequence.twin import TWIN
from tests.cases import SCHEMA, SIZES, item_fields, random_batch
from tests.reference.two_stage import best, twin_alpha, twin_attention

L = SCHEMA.history_length


def twin(**config: object) -> TWIN:
    model = build_model("twin", SCHEMA, item_fields(), {**SIZES, "k": 3, **config})
    assert isinstance(model, TWIN)
    for weight in (model.w_h, model.beta):
        torch.nn.init.normal_(weight)
    return model.double().eval()


def alphas(model: TWIN, target: Tensor, inherent: Tensor, cross: Tensor) -> list[list[float]]:
    """α of one user's events for one candidate, by head."""
    return twin_alpha(
        model.w_q.tolist(),
        model.w_h.tolist(),
        model.beta.tolist(),
        model.config.heads,
        target.tolist(),
        inherent.tolist(),
        cross.tolist(),
    )


def by_loops(model: TWIN, batch: Batch) -> Tensor:
    """The long-history vector of each candidate, [B, C, H·D]."""
    target, inherent = (
        model.frame.items(batch.slate.items),
        model.frame.items(batch.user.history),
    )
    cross = model.ages(batch.user.ages)
    rows = torch.cat([inherent, cross], -1)
    w_v, w_o = model.w_v.tolist(), model.w_o.weight.mT.tolist()
    out = []
    for b, history in enumerate(batch.user.history.tolist()):
        for c in range(batch.slate.items.shape[1]):
            alpha = alphas(model, target[b, c], inherent[b], cross[b])
            largest = [
                max(heads) + RESOLUTION / L * at
                for at, heads in enumerate(zip(*alpha, strict=True))
            ]
            best_events = best(largest, [event > 0 for event in history], model.config.k)
            chosen = [[head[at] for at in best_events] for head in alpha]
            out.append(twin_attention(w_v, w_o, chosen, rows[b, best_events].tolist()))
    return torch.tensor(out, dtype=torch.float64).view(*batch.slate.items.shape, -1)


def forward(model: TWIN, batch: Batch) -> Tensor:
    logits: Tensor = model(batch.user, batch.context, batch.slate)
    return logits


@pytest.mark.parametrize("k", [1, 3, L, L + 5])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_it_attends_to_the_events_that_sorting_finds(heads: int, k: int):
    """One user has no history."""
    model, batch = twin(k=k, heads=heads), random_batch(users=8)
    long = by_loops(model, batch)
    assert not long[0].any()
    profile, target = model.frame.profile(batch.user.fields), model.frame.items(batch.slate.items)
    expected = model.frame.logits(profile, batch.context, target, long)
    torch.testing.assert_close(forward(model, batch), expected)


def test_alpha_equals_the_equation():
    model, batch = twin(), random_batch()
    target, inherent = model.frame.items(batch.slate.items), model.frame.items(batch.user.history)
    cross = model.ages(batch.user.ages)
    got = model.alpha(target, inherent, cross)
    for b in range(len(got)):
        for c in range(target.shape[1]):
            expected = alphas(model, target[b, c], inherent[b], cross[b])
            torch.testing.assert_close(got[b, :, c], torch.tensor(expected, dtype=torch.float64))


def test_events_that_are_not_found_do_not_change_the_score():
    model, batch = twin(k=1), random_batch(users=1, candidates=1)
    history = torch.arange(2, 2 + L)[None]
    user = User(history, torch.ones_like(history), random_batch(users=1).user.fields)
    target, inherent = model.frame.items(batch.slate.items), model.frame.items(history)
    best_event = model.alpha(target, inherent, model.ages(user.ages)).amax(1).argmax()
    for position in range(L):
        changed = user.history.clone()
        changed[0, position] = 0
        other = model(User(changed, user.ages, user.fields), batch.context, batch.slate)
        same = torch.equal(other, model(user, batch.context, batch.slate))
        assert same == (position != best_event)


def test_the_age_of_an_event_decides_what_is_found():
    model, batch = twin(k=1), random_batch(users=1, candidates=1)
    history = torch.full((1, L), 7)
    ages = torch.ones_like(history)
    ages[0, 4] = 20
    target, inherent = model.frame.items(batch.slate.items), model.frame.items(history)
    alpha = model.alpha(target, inherent, model.ages(ages)).amax(1)[0, 0]
    others = alpha[torch.arange(L) != 4]
    torch.testing.assert_close(others, others[:1].expand(L - 1))
    assert (alpha[4] - others[0]).abs() > 0.1


def test_empty_histories_have_finite_gradients():
    model, batch = twin(), random_batch()
    nothing = torch.zeros_like(batch.user.history)
    user = User(nothing, nothing, batch.user.fields)
    model.train()(user, batch.context, batch.slate).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_search_and_attention_have_one_set_of_weights():
    names = [name for name, _ in twin().named_parameters() if not name.startswith("frame")]
    assert names == ["w_q", "w_h", "beta", "w_v", "ages.weight", "w_o.weight"]


def test_weights_start_as_documented():
    model = build_model("twin", SCHEMA, item_fields(), SIZES)
    assert isinstance(model, TWIN)
    assert torch.equal(model.w_h, model.w_q)
    assert not model.beta.any()
    items = model.frame.items(torch.arange(2, 30)[None])
    assert (items @ model.w_q).std().item() == pytest.approx(1, rel=0.3)


def test_the_state_is_the_history():
    state = twin().encode(random_batch().user)
    assert torch.equal(state["rows"], random_batch().user.history.int())
    assert torch.equal(state["event_ages"], random_batch().user.ages.int())


def test_a_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k: got 0, expected at least 1"):
        twin(k=0)
