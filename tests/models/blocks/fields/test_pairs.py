"""Sums over pairs of fields, against loops."""

import torch

from models.blocks.fields.pairs import matrix_pairs, pair_places, sum_pairs, upper, weighted_pairs
from tests.models.field.by_pairs import by_pairs, dot

K, D = 5, 3


def test_sums_over_pairs_equal_loops():
    torch.manual_seed(0)
    x = torch.randn(2, 4, K, D, dtype=torch.float64)
    torch.testing.assert_close(sum_pairs(x), by_pairs(x, dot))
    weight = torch.randn(K, K, dtype=torch.float64).triu(1)
    expected = by_pairs(x, lambda k, m, a, b: weight[k, m] * dot(k, m, a, b))
    torch.testing.assert_close(weighted_pairs(x, weight + weight.T), expected)
    pairs = torch.randn(K * (K - 1) // 2, D, D, dtype=torch.float64)
    matrices = upper(pairs, pair_places(K))
    place: dict[tuple[int, int], int] = {}
    for k in range(K):
        for m in range(k + 1, K):
            place[k, m] = len(place)
    expected = by_pairs(x, lambda k, m, a, b: ((a @ pairs[place[k, m]]) * b).sum(-1))
    torch.testing.assert_close(matrix_pairs(x, matrices), expected)
