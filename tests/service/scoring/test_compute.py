"""Slates in pieces: the scores of the whole slate, from as many threads as are idle."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.contract.errors import ArtifactError
from service.runtime.scorer import Scored, Scorer, Slate
from service.runtime.workers import Workers
from service.scoring.compute import MIN_PIECE, score_in_pieces, unless_error
from tests.service.toy import VOCABULARY_OF_TOYS, Toy, listed_score_graph, slate_of

UNKNOWN_EVERY = 10


class CountingWorkers(Workers):
    """Counts the work that it was given."""

    num_given = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.num_given += 1
        return super().submit(*args, **kwargs)


@contextmanager
def threads(number: int) -> Iterator[CountingWorkers]:
    workers = CountingWorkers(number)
    try:
        yield workers
    finally:
        workers.shutdown()


@contextmanager
def all_but_one_busy(workers: Workers, number: int) -> Iterator[None]:
    ends, begun = threading.Event(), threading.Barrier(number)

    def wait() -> None:
        begun.wait()
        ends.wait()

    for _ in range(number - 1):
        workers.submit(wait)
    begun.wait()
    try:
        yield
    finally:
        ends.set()


def candidates(number: int) -> list[str]:
    """Known items, and an unknown one in every tenth place."""
    return [
        f"i{at}" if at % UNKNOWN_EVERY == 9 and at > 29 else f"i{at % 9}" for at in range(number)
    ]


def in_pieces(scorer: Scorer, slate: Slate, workers: Workers) -> Scored | Exception:
    return workers.submit(score_in_pieces, scorer, slate, workers).result()


def whole(scorer: Scorer, items: Sequence[str]) -> Scored:
    (result,) = scorer.score_many([slate_of(Toy(), ["i1", "i4"], items)])
    return unless_error(result)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("num_candidates", [1, MIN_PIECE, 2 * MIN_PIECE, 3 * MIN_PIECE + 1, 700])
def test_pieces_give_the_scores_and_the_unknown_candidates_of_the_whole(
    tmp_path: Path, num_threads: int, num_candidates: int
) -> None:
    items = candidates(num_candidates)
    scorer, slate = Scorer(Toy().save(tmp_path), 1), slate_of(Toy(), ["i1", "i4"], items)

    with threads(num_threads) as workers:
        scores, unknown, *_ = unless_error(in_pieces(scorer, slate, workers))

    expected_scores, expected_unknown, *_ = whole(scorer, items)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    assert unknown == expected_unknown
    assert bool(unknown) == (num_candidates > 39)
    assert list(slate.ended) == ["queue", "decode", "score"]


def test_pieces_take_their_part_of_the_candidate_fields(tmp_path: Path) -> None:
    toy, number = Toy(candidate_names=("display",)), 3 * MIN_PIECE + 1
    values = [("front", "new", None)[at % 3] for at in range(number - 1)] + ["newer"]
    slate = replace(slate_of(toy, ["i1"], candidates(number)), candidate_fields={"display": values})
    scorer = Scorer(toy.save(tmp_path), 1)

    with threads(3) as workers:
        scored = unless_error(in_pieces(scorer, slate, workers))

    (result,) = scorer.score_many([slate])
    expected = unless_error(result)
    np.testing.assert_allclose(scored.scores, expected.scores, atol=1e-6)
    assert scored.unknown_fields == expected.unknown_fields == {"display": ["new", None, "newer"]}


@pytest.mark.parametrize(
    ("num_threads", "num_candidates", "num_pieces"),
    [
        (4, 8 * MIN_PIECE, 4),
        (4, 3 * MIN_PIECE - 1, 2),
        (4, 2 * MIN_PIECE - 1, 1),
        (1, 8 * MIN_PIECE, 1),
    ],
)
def test_there_is_a_piece_for_each_idle_thread_unless_pieces_would_be_short(
    tmp_path: Path, num_threads: int, num_candidates: int, num_pieces: int
) -> None:
    scorer = Scorer(Toy().save(tmp_path), 1)

    with threads(num_threads) as workers:
        in_pieces(scorer, slate_of(Toy(), ["i1"], candidates(num_candidates)), workers)

    assert workers.num_given == num_pieces
    assert workers.num_idle == num_threads


def test_a_slate_stays_whole_while_the_other_threads_are_busy(tmp_path: Path) -> None:
    scorer = Scorer(Toy().save(tmp_path), 1)

    with threads(3) as workers, all_but_one_busy(workers, 3):
        given = workers.num_given
        in_pieces(scorer, slate_of(Toy(), ["i1"], candidates(8 * MIN_PIECE)), workers)

        assert workers.num_given == given + 1


def test_pieces_that_no_thread_begins_are_scored_by_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = candidates(8 * MIN_PIECE)
    scorer = Scorer(Toy().save(tmp_path), 1)
    monkeypatch.setattr(Workers, "num_idle", 3)  # they got other work a moment later

    with threads(1) as workers:
        scores, *_ = unless_error(in_pieces(scorer, slate_of(Toy(), ["i1", "i4"], items), workers))

    assert workers.num_ended == 1
    np.testing.assert_allclose(scores, whole(scorer, items)[0], atol=1e-6)


def test_a_score_that_is_not_finite_in_any_piece_fails_the_slate(tmp_path: Path) -> None:
    logits = [0.0] * 32
    logits[int(VOCABULARY_OF_TOYS.item_rows(["i5"])[0])] = float("nan")
    scorer = Scorer(Toy().save(tmp_path, score=listed_score_graph(logits)), 1)
    items = ["i4"] * (2 * MIN_PIECE - 1) + ["i5"]

    with threads(2) as workers:
        result = in_pieces(scorer, slate_of(Toy(), ["i1"], items), workers)

    assert isinstance(result, ArtifactError)
