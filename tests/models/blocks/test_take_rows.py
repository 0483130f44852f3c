"""Rows of a table: values and gradients as torch's own, but none for padding."""

import torch

from models.blocks.take_rows import take_rows


def test_values_and_gradients_are_those_of_an_index():
    table = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    other = table.detach().clone().requires_grad_()
    index, weight = torch.tensor([[1, 8, 1], [0, 3, 0]]), torch.randn(2, 3, 3).double()
    assert torch.equal(take_rows(table, index), other[index])
    (take_rows(table, index) * weight).sum().backward()
    (other[index] * weight).sum().backward()
    assert table.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(table.grad[1:], other.grad[1:])
    assert not table.grad[0].any()
    assert other.grad[0].any()
