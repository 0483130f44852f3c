"""Slates of several users in one run of the graph."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.errors import ArtifactError
from service.runtime.scorer import Scorer, Slate, right_aligned
from tests.service.toy import VOCABULARY_OF_TOYS, Toy, listed_score_graph, slate_of

SLATES = [(["i1"], ["i2", "i3"]), (["i9", "i4"], ["i5"]), ([], ["i7", "i7", "unknown", "i0"])]


def _slates(toy: Toy) -> list[Slate]:
    return [slate_of(toy, history, items) for history, items in SLATES]


def test_slates_of_several_lengths_score_together_as_each_does_alone(tmp_path: Path):
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path), 1)
    slates = _slates(toy)

    results = scorer.score_many(slates)

    for (history, items), result in zip(SLATES, results, strict=True):
        expected = toy.scores(toy.state(history), items, history, {"hour": "day"})
        assert not isinstance(result, Exception)
        scores, unknown = result
        assert scores.tolist() == pytest.approx(expected, abs=1e-6)
        assert unknown == [item for item in items if item == "unknown"]
    assert all(list(slate.ended) == ["queue", "decode", "score"] for slate in slates)


def test_a_slate_whose_score_is_not_finite_fails_alone(tmp_path: Path):
    logits = [0.0] * 32
    logits[int(VOCABULARY_OF_TOYS.item_rows(["i5"])[0])] = float("nan")
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path, score=listed_score_graph(logits)), 1)

    first, second, third = scorer.score_many(_slates(toy))

    assert not isinstance(first, Exception)
    assert first[0].tolist() == [0.5, 0.5]
    assert isinstance(second, ArtifactError)
    assert not isinstance(third, Exception)
    assert third[0].tolist() == [0.5] * 4


def test_an_artifact_that_cannot_score_unknown_items_does_not_load(tmp_path: Path):
    logits = [0.0] * 32
    logits[1] = float("nan")  # the row of unknown items, which also pads shorter slates
    artifact = Toy().save(tmp_path, score=listed_score_graph(logits))

    with pytest.raises(ArtifactError, match="not finite"):
        Scorer(artifact, 1)


def test_recent_items_of_the_request_replace_those_of_the_record(tmp_path: Path):
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path), 1)
    state, context = toy.state(["i1"]), VOCABULARY_OF_TOYS.context_ids({})
    in_record = VOCABULARY_OF_TOYS.item_rows(["i4"])
    slates = [Slate(state, recent, in_record, context, ["i2"], {}) for recent in (None, ["i9"], [])]

    results = scorer.score_many(slates)

    expected = [toy.scores(state, ["i2"], recent) for recent in (["i4"], ["i9"], [])]
    for result, scores in zip(results, expected, strict=True):
        assert not isinstance(result, Exception)
        np.testing.assert_allclose(result[0], scores, atol=1e-6)


@given(rows=st.lists(st.integers(2, 31), max_size=8), length=st.integers(0, 8))
def test_right_aligned_keeps_the_latest_and_pads_in_front(rows: list[int], length: int):
    aligned = right_aligned(np.array(rows, np.int64), length)
    kept = rows[len(rows) - min(len(rows), length) :]
    assert aligned.tolist() == [0] * (length - len(kept)) + kept
