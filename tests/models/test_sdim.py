"""SDIM against its equation as a loop (`tests/reference/sim_hash.py`), in float64."""

import pytest
import torch

from models.registry import build_model
from models.sequence.sdim import EPSILON, SDIM
from tests.cases import SCHEMA, SIZES, item_fields, random_batch
from tests.reference.sim_hash import sdim as by_loops


def sdim(**config: object) -> SDIM:
    model = build_model("sdim", SCHEMA, item_fields(), {**SIZES, "num_bits": 12, **config})
    assert isinstance(model, SDIM)
    return model.double().eval()


@pytest.mark.parametrize("tau", [1, 2, 3])
def test_it_is_the_equation(tau: int):
    """Among the users is one without a history, and one with a single event."""
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


def test_its_state_is_normalised_sums():
    model, batch = sdim(tau=3), random_batch(users=8)
    norms = model.encode(batch.user)["buckets"].norm(dim=-1)
    assert norms.max() <= 1
    assert not norms[0].any()
    full = norms[-1][norms[-1] > 0]
    torch.testing.assert_close(full, torch.ones_like(full), atol=1e-3, rtol=0)


def test_gradients_flow_through_events_and_not_through_the_hash():
    """The only gradient that a candidate's embedding gets is the frame's own."""
    model, batch = sdim(), random_batch()
    state = model.encode(batch.user)
    assert state["buckets"].requires_grad
    assert not model.hash(model.frame.items(batch.slate.items)).requires_grad


@pytest.mark.parametrize("config", [{"tau": 5}, {"tau": 0}, {"num_bits": 0}, {"tau": 13}])
def test_signatures_that_do_not_fit_are_refused(config: dict[str, object]):
    with pytest.raises(ValueError, match=r"tau: got num_bits = .*, expected a tau that divides"):
        sdim(**config)
