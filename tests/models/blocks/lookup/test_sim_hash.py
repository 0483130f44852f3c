"""Signatures of random hyperplanes: against loops, and against the probability that two vectors collide."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.blocks.lookup.sim_hash import SimHash, bucket_ids, similarity
from tests.reference import sim_hash as reference

D = 5


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at_angle(theta: float) -> Tensor:
    """Two unit vectors, [1, 2, D]."""
    pair = torch.zeros(1, 2, D, dtype=torch.float64)
    pair[0, :, 0] = torch.tensor([1.0, math.cos(theta)])
    pair[0, 1, 1] = math.sin(theta)
    return pair


def test_bits_are_the_signs_of_products():
    block, x = SimHash(dim=D, num_bits=7), random(2, 3, D)
    got = block(x)
    for b in range(2):
        for k in range(3):
            expected = reference.bits(x[b, k].tolist(), block.planes.double().tolist())
            assert got[b, k].int().tolist() == expected


def test_a_vector_on_every_plane_has_no_bits():
    assert not SimHash(dim=D, num_bits=7)(torch.zeros(1, 2, D)).any()


def test_signs_are_taken_in_double_precision():
    """1e8 + 1 − 1e8 is 0 in float32."""
    block = SimHash(dim=3, num_bits=1)
    block.planes.fill_(1)
    x = torch.tensor([[[1e8, 1.0, -1e8]]])
    assert block(x).all()
    assert not block(-x).any()


@pytest.mark.parametrize("theta", [0.1, 0.8, math.pi / 2, 2.5])
@pytest.mark.parametrize("tau", [1, 2, 3])
def test_vectors_collide_with_the_probability_of_their_angle(theta: float, tau: int):
    """(1 − θ/π)^τ over 12,000 independent signatures, within four standard errors."""
    signatures = 12_000
    block = SimHash(dim=D, num_bits=signatures * tau)
    left, right = bucket_ids(block(at_angle(theta)), tau)[0]
    expected = (1 - theta / math.pi) ** tau
    error = math.sqrt(expected * (1 - expected) / signatures)
    assert abs((left == right).double().mean().item() - expected) < 4 * error


@pytest.mark.parametrize("theta", [0.3, 1.2, 2.9])
def test_hamming_distance_is_on_average_the_angle(theta: float):
    m = 20_000
    bits = SimHash(dim=D, num_bits=m)(at_angle(theta))
    distance = (m - similarity(bits[:, :1], bits[:, 1:]).item()) / 2
    share = theta / math.pi
    assert abs(distance / m - share) < 4 * math.sqrt(share * (1 - share) / m)


@given(st.integers(1, 4), st.data())
def test_buckets_are_numbers_of_tau_bits(tau: int, data: st.DataObject):
    values = data.draw(st.lists(st.booleans(), min_size=tau, max_size=5 * tau))
    values = values[: len(values) // tau * tau]
    expected = reference.buckets([int(bit) for bit in values], tau)
    assert bucket_ids(torch.tensor(values)[None, None], tau)[0, 0].tolist() == expected


def test_similarity_is_equal_bits_minus_unequal_bits():
    left, right = random(2, 3, 9) > 0, random(2, 4, 9, seed=1) > 0
    got = similarity(left, right)
    for b in range(2):
        for c in range(3):
            for k in range(4):
                distance = reference.hamming(left[b, c].tolist(), right[b, k].tolist())
                assert got[b, c, k] == 9 - 2 * distance


def test_hyperplanes_are_fixed_and_never_trained():
    first, again = SimHash(dim=D, num_bits=8), SimHash(dim=D, num_bits=8)
    assert torch.equal(first.planes, again.planes)
    assert not torch.equal(first.planes, SimHash(dim=D, num_bits=8, seed=2).planes)
    assert list(first.parameters()) == []
    assert "planes" in first.state_dict()


def test_constants_are_made_on_the_device_of_the_bits():
    """The "meta" device computes shapes only, and fails if another device is mixed in."""
    bits = torch.zeros(2, 3, 48, dtype=torch.bool, device="meta")
    assert bucket_ids(bits, 3).shape == (2, 3, 16)
