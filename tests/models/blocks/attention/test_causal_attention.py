"""Attention among the events of a history, against loops."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.blocks.attention.causal_attention import (
    QKV,
    RelativeBias,
    dense_attention,
    gap_buckets,
    seen_from,
    sparse_attention,
)

HEADS, WIDTH = 2, 3


def random_attention(length: int) -> tuple[QKV, Tensor, RelativeBias]:
    torch.manual_seed(length)
    query, key, value = torch.randn(3, 2, HEADS, length, WIDTH, dtype=torch.float64)
    ages = torch.randint(1, 50, (2, length)).sort(1, descending=True).values
    ages[1, : length // 3] = 0  # padding
    bias = RelativeBias(length).double()
    torch.nn.init.normal_(bias.distance)
    torch.nn.init.normal_(bias.gap)
    return (query, key, value), ages, bias


def by_loops(qkv: QKV, ages: Tensor, bias: RelativeBias, window: int, stride: int) -> Tensor:
    """softmax over the allowed j of q_i·k_j/√d + p[i − j] + s[bucket], event by event; zeros for padding."""
    query, key, value = qkv
    out = torch.zeros_like(query)
    B, H, N, width = query.shape
    gaps, last = gap_buckets(), len(bias.distance) - 1
    for b in range(B):
        for i in range(N):
            allowed = [
                j
                for j in range(i + 1)
                if ages[b, j] > 0 and (i - j < window or (i - j) % stride == 0)
            ]
            for h in range(H if ages[b, i] else 0):
                logits = torch.stack(
                    [
                        query[b, h, i] @ key[b, h, j] / width**0.5
                        + bias.distance[last - (i - j)]
                        + bias.gap[gaps[ages[b, i], ages[b, j]]]
                        for j in allowed
                    ]
                )
                out[b, h, i] = logits.softmax(0) @ value[b, h, allowed]
    return out


def is_real(ages: Tensor) -> Tensor:
    return (ages > 0)[:, None, :, None]


@pytest.mark.parametrize("length", [1, 2, 7, 12])
def test_dense_attention_equals_its_equation(length: int):
    qkv, ages, bias = random_attention(length)
    expected = by_loops(qkv, ages, bias, window=0, stride=1)
    got = dense_attention(qkv, ages, bias)
    torch.testing.assert_close(got * is_real(ages), expected)


@given(length=st.integers(1, 14), window=st.integers(1, 15), stride=st.integers(1, 15))
def test_sparse_attention_equals_its_equation(length: int, window: int, stride: int):
    qkv, ages, bias = random_attention(length)
    expected = by_loops(qkv, ages, bias, window, stride)
    got = sparse_attention(qkv, ages, bias, window=window, stride=stride)
    torch.testing.assert_close(got * is_real(ages), expected)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (12, 5), (40, 40)])
def test_sparse_attention_to_all_events_is_dense_attention(window: int, stride: int):
    qkv, ages, bias = random_attention(12)
    got = sparse_attention(qkv, ages, bias, window=window, stride=stride)
    dense = dense_attention(qkv, ages, bias)
    torch.testing.assert_close(got * is_real(ages), dense * is_real(ages))


def test_without_a_bias_attention_is_plain_causal_attention():
    qkv, ages, bias = random_attention(9)
    ages[ages == 0] = 49
    torch.nn.init.zeros_(bias.distance)
    torch.nn.init.zeros_(bias.gap)
    query, key, value = qkv
    plain = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(dense_attention(qkv, ages, bias), plain)


def test_the_bias_depends_only_on_distance_and_gap():
    bias = RelativeBias(20).double()
    torch.nn.init.normal_(bias.distance)
    pairs = torch.tensor([[9, 3], [30, 24]])  # other ages, other gaps
    distance = torch.tensor(5)
    first, second = (bias(distance, i, j) for i, j in pairs)
    swapped = bias(distance, pairs[0, 1], pairs[0, 0])
    assert first == swapped
    assert first != second
    assert bias(torch.tensor(6), *pairs[0]) - first == bias.distance[13] - bias.distance[14]


def test_gaps_have_the_buckets_of_the_released_code():
    """The released buckets of an hour and a day are 27 and 37; ages are exact to half an octave, so within one."""
    gaps = gap_buckets()
    assert (gaps.diagonal() == 0).all()
    hour, day = 12, 21
    assert abs(int(gaps[1, hour]) - 27) <= 1
    assert abs(int(gaps[1, day]) - 37) <= 1


@pytest.mark.parametrize(
    ("window", "stride", "expected"),
    [
        (0, 1, [0, 1, 2, 3, 4, 5, 6]),
        (3, 1, [0, 1, 2, 3, 4, 5, 6]),
        (3, 4, [3, 5, 6]),
        (2, 3, [1, 4, 6]),
    ],
)
def test_a_candidate_attends_to_the_nearest_and_every_rth_event(
    window: int, stride: int, expected: list[int]
):
    """Seven events; the candidate comes after the last, and counts in its own window."""
    assert seen_from(7, window, stride).tolist() == expected
