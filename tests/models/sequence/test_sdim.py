"""SDIM against its equation as a loop (`tests/reference/sim_hash.py`), in float64."""

import pytest
import torch
from torch import Tensor

from models.batch import Batch, Slate, User
from models.registry import build_model
from models.sequence.sdim import EPSILON, SDIM
from tests.cases import SCHEMA, SIZES, item_fields, random_batch
from tests.reference.sim_hash import bucket_table
from tests.reference.sim_hash import sdim as by_loops


def sdim(**config: object) -> SDIM:
    model = build_model("sdim", SCHEMA, item_fields(), {**SIZES, "num_bits": 12, **config})
    assert isinstance(model, SDIM)
    return model.double().eval()


def long_of(model: SDIM, batch: Batch) -> Tensor:
    """The long-history vector of each candidate, [B, C, D]: the last columns of the head's input."""
    seen: list[Tensor] = []
    hook = model.frame.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    model(batch.user, batch.context, batch.slate)
    hook.remove()
    return seen[0][..., -model.frame.items.dim :]


@pytest.mark.parametrize("tau", [1, 2, 3])
def test_it_is_the_equation(tau: int):
    """One user has no history, and one has a single event."""
    model, batch = sdim(tau=tau), random_batch(users=8)
    target, events = model.frame.items(batch.slate.items), model.frame.items(batch.user.history)
    planes = model.hash.planes.tolist()
    long = torch.tensor(
        [
            [
                by_loops(e_t, [e for e in events[b].tolist() if any(e)], planes, tau, EPSILON)
                for e_t in target[b].tolist()
            ]
            for b in range(len(target))
        ],
        dtype=torch.float64,
    )
    assert not long[0].any()
    profile = model.frame.profile(batch.user.fields)
    expected = model.frame.logits(profile, batch.context, target, long)
    torch.testing.assert_close(model(batch.user, batch.context, batch.slate), expected)


@pytest.mark.parametrize("tau", [1, 3])
def test_the_state_is_the_table_of_all_buckets(tau: int):
    model, batch = sdim(tau=tau), random_batch()
    got, planes = model.encode(batch.user)["buckets"], model.hash.planes.tolist()
    events = model.frame.items(batch.user.history)
    for b, history in enumerate(batch.user.history):
        expected = bucket_table(events[b, history > 0].tolist(), planes, tau, EPSILON)
        torch.testing.assert_close(got[b], torch.tensor(expected, dtype=torch.float64))


def test_padding_adds_nothing_at_any_position():
    model, batch = sdim(), random_batch(users=1)
    among, behind = torch.zeros(2, 1, SCHEMA.history_length, dtype=torch.int64)
    among[0, [0, 3, 4, 9]] = behind[0, -4:] = torch.tensor([2, 7, 7, 5])
    got, expected = (
        model.encode(User(rows, (rows > 0).long(), batch.user.fields))["buckets"]
        for rows in (among, behind)
    )
    assert expected.any()
    torch.testing.assert_close(got, expected)


def test_ages_are_not_used():
    model, batch = sdim(), random_batch()
    older = User(batch.user.history, 2 * (batch.user.history > 0).long(), batch.user.fields)
    state, other = model.encode(batch.user), model.encode(older)
    assert not torch.equal(older.ages, batch.user.ages)
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_the_state_holds_normalised_sums():
    model, batch = sdim(tau=3), random_batch(users=8)
    norms = model.encode(batch.user)["buckets"].norm(dim=-1)
    assert norms.max() <= 1
    assert not norms[0].any()
    full = norms[-1][norms[-1] > 0]
    torch.testing.assert_close(full, torch.ones_like(full), atol=1e-3, rtol=0)


def test_gradients_flow_through_events_and_not_through_the_hash():
    """A candidate that is not in the history has no gradient; that of an event is the slope with fixed signatures."""
    model, batch = sdim(), random_batch()
    table = model.frame.items.tables[0]
    assert isinstance(table, torch.nn.Embedding)
    ids = table.weight
    (gradient,) = torch.autograd.grad(long_of(model, batch).sum(), ids)
    moved = set(gradient.any(1).nonzero().flatten().tolist())
    events, candidates = (
        set(x.flatten().tolist()) for x in (batch.user.history, batch.slate.items)
    )
    assert candidates - events
    assert moved
    assert moved <= events
    row, column = divmod(int(gradient.abs().argmax()), ids.shape[1])
    step, ends = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            ids[row, column] += sign * step
            ends.append(long_of(model, batch).sum())
            ids[row, column] -= sign * step
    torch.testing.assert_close(
        (ends[0] - ends[1]) / (2 * step), gradient[row, column], rtol=1e-5, atol=0
    )


def test_an_output_has_at_most_length_one():
    """It has that length where all events are the candidate's own item."""
    model, batch = sdim(), random_batch(users=8)
    assert long_of(model, batch).norm(dim=-1).max() <= 1
    history = torch.full_like(batch.user.history, 7)
    user = User(history, torch.ones_like(history), batch.user.fields)
    same = Batch.unweighted(user, batch.context, Slate.of(history[:, :5]), batch.label, batch.mask)
    norms = long_of(model, same).norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=1e-6)
    assert norms.max() < 1


@pytest.mark.parametrize("config", [{"tau": 5}, {"tau": 0}, {"num_bits": 0}, {"tau": 13}])
def test_signatures_that_do_not_fit_are_refused(config: dict[str, object]):
    with pytest.raises(ValueError, match=r"tau: got num_bits = .*, expected a tau that divides"):
        sdim(**config)
