"""The search against sorting, in torch and in ONNX Runtime."""

import pytest
import torch
from torch import Tensor, nn

from builder.export.onnx import OPSET
from builder.export.session import open_graph, run_graph
from models.blocks.lookup.top_k import gather_events, top_k
from tests.reference.two_stage import best


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lengths(*lengths: int, L: int = 8) -> Tensor:
    """Right-aligned histories of these lengths."""
    return torch.arange(L) >= L - torch.tensor(lengths)[:, None]


def chosen(index: Tensor, is_real: Tensor) -> list[list[list[int]]]:
    """The real positions of each user's candidates, sorted."""
    pairs = zip(index, is_real, strict=True)
    return [[sorted(p[r].tolist()) for p, r in zip(*pair, strict=True)] for pair in pairs]


def by_sorting(score: Tensor, is_real: Tensor, k: int) -> list[list[list[int]]]:
    return [
        [sorted(best(row.tolist(), real.tolist(), k)) for row in rows]
        for rows, real in zip(score, is_real, strict=True)
    ]


@pytest.mark.parametrize("k", [1, 3, 7, 8, 20])
def test_top_k_finds_what_sorting_finds(k: int):
    score, is_real = random(5, 4, 8), lengths(0, 1, 3, 7, 8)
    index, is_found = top_k(score, is_real, k)
    assert index.shape == is_found.shape == (5, 4, min(k, 8))
    assert chosen(index, is_found) == by_sorting(score, is_real, k)
    assert not is_found[0].any(), "an empty history holds nothing to find"


def test_padding_is_not_chosen_before_any_event():
    index, is_found = top_k(-9 - random(3, 4, 8).abs(), lengths(2, 5, 8), 3)
    assert is_found.sum(-1).tolist() == [[2] * 4, [3] * 4, [3] * 4]
    for row, real in enumerate(lengths(2, 5, 8)):
        assert real[index[row][is_found[row]]].all()


def test_a_score_of_minus_infinity_is_never_chosen():
    score = random(2, 3, 8).masked_fill(random(2, 3, 8, seed=1) > 0, -torch.inf)
    score[0, 0] = -torch.inf
    index, is_found = top_k(score, lengths(8, 6), 4)
    assert chosen(index, is_found) == by_sorting(score, lengths(8, 6), 4)
    assert not is_found[0, 0].any()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_of_equal_scores_the_latest_events_win(k: int):
    score = random(4, 5, 8).round()  # few different values
    index, is_found = top_k(score, lengths(3, 5, 7, 8), k, newer=1 / 8)
    assert chosen(index, is_found) == by_sorting(score, lengths(3, 5, 7, 8), k)
    assert chosen(*top_k(torch.zeros(1, 1, 8), lengths(8), k, newer=1e-3 / 8)) == [
        [list(range(8 - k, 8))]
    ]


def test_the_choice_has_no_gradient():
    index, is_found = top_k(random(2, 3, 8).requires_grad_(), lengths(8, 0), 2)
    assert not index.requires_grad
    assert not is_found.requires_grad


def test_events_are_gathered_by_candidate():
    values, index = random(3, 8, 5), torch.randint(8, (3, 4, 2))
    got = gather_events(values, index)
    for b in range(3):
        for c in range(4):
            for k in range(2):
                assert torch.equal(got[b, c, k], values[b, index[b, c, k]])


class Search(nn.Module):
    def forward(self, score: Tensor, is_real: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        index, is_found = top_k(score, is_real, 3, newer=1 / 8)
        return gather_events(values, index) * is_found[..., None], is_found


@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
def test_onnx_finds_the_same_for_any_number_of_users_and_candidates():
    users, candidates = torch.export.Dim("users", max=99), torch.export.Dim("candidates", max=99)
    program = torch.onnx.export(
        Search().eval(),
        (random(3, 4, 8), lengths(0, 2, 8), random(3, 8, 5)),
        input_names=["score", "is_real", "values"],
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: users, 1: candidates}, {0: users}, {0: users}),
    )
    assert program is not None
    session = open_graph(program.model_proto.SerializeToString())
    for B, C in [(1, 1), (3, 4), (2, 7)]:
        inputs = random(B, C, 8).round(), lengths(5, 0, 8)[:B], random(B, 8, 5)
        feed = dict(zip(("score", "is_real", "values"), map(Tensor.numpy, inputs), strict=True))
        events, is_found = Search()(*inputs)
        got, got_is_found = map(torch.from_numpy, run_graph(session, feed))
        assert torch.equal(got_is_found.sum(-1), is_found.sum(-1))
        torch.testing.assert_close(got.sum(2), events.sum(2))
