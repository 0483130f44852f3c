"""Several users' slates in one run of the graph."""

from pathlib import Path

import numpy as np
import pytest

from models.contract.errors import ArtifactError
from service.runtime.scorer import Scorer, Slate
from tests.service.toy import VOCABULARY_OF_TOYS, Toy, listed_score_graph

SLATES = [(["i1"], ["i2", "i3"]), (["i9", "i4"], ["i5"]), ([], ["i7", "i7", "nobody-knows", "i0"])]


def _slates(toy: Toy) -> list[Slate]:
    rows = VOCABULARY_OF_TOYS.item_rows
    context = VOCABULARY_OF_TOYS.context_ids({"hour": "day"})
    return [
        Slate(toy.state(history), rows(history), context, rows(items)) for history, items in SLATES
    ]


def test_slates_of_several_lengths_score_together_as_each_does_alone(tmp_path: Path):
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path), 1)
    for (history, items), scores in zip(SLATES, scorer.score_many(_slates(toy)), strict=True):
        expected = toy.scores(toy.state(history), items, history, {"hour": "day"})
        assert isinstance(scores, np.ndarray)
        assert scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_slate_whose_score_is_not_finite_fails_alone(tmp_path: Path):
    logits = [0.0] * 32
    logits[int(VOCABULARY_OF_TOYS.item_rows(["i5"])[0])] = float("nan")
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path, score=listed_score_graph(logits)), 1)
    first, second, third = scorer.score_many(_slates(toy))
    assert isinstance(first, np.ndarray)
    assert first.tolist() == [0.5, 0.5]
    assert isinstance(second, ArtifactError)
    assert isinstance(third, np.ndarray)
    assert third.tolist() == [0.5] * 4


def test_what_pads_a_shorter_slate_cannot_fail_it(tmp_path: Path):
    logits = [0.0] * 32
    logits[1] = float("nan")  # the row of unknown items, which pads
    toy = Toy()
    slate = _slates(toy)
    with pytest.raises(ArtifactError, match="not finite"):
        # The warm-up scores unknown items: an artifact that cannot do that does not serve at all.
        Scorer(toy.save(tmp_path, score=listed_score_graph(logits)), 1).score_many(slate)
