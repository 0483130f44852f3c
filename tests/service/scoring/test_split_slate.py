"""A slate in pieces: the scores of the whole, from as many threads as have nothing to do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.contract.errors import ArtifactError
from service.runtime.scorer import Scorer, Slate
from service.runtime.workers import Workers
from service.scoring.split_slate import LEAST, Scored, score_split
from tests.service.toy import VOCABULARY_OF_TOYS, Toy, listed_score_graph

NUM_ITEMS = 10


class Counting(Workers):
    """Knows how much work it was given."""

    num_given = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.num_given += 1
        return super().submit(*args, **kwargs)


@contextmanager
def threads(number: int) -> Iterator[Counting]:
    workers = Counting(number)
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


def slate_of(toy: Toy, num_candidates: int) -> Slate:
    rows = VOCABULARY_OF_TOYS.item_rows
    items = [f"i{at % NUM_ITEMS}" for at in range(num_candidates)]
    context = VOCABULARY_OF_TOYS.context_ids({"hour": "day"})
    return Slate(toy.state(["i1", "i4"]), rows(["i1", "i4"]), context, rows(items))


def scored(scorer: Scorer, slate: Slate, workers: Workers) -> Scored:
    return workers.submit(score_split, scorer, slate, workers).result()


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("num_candidates", [1, LEAST, 2 * LEAST, 3 * LEAST + 1, 700])
def test_pieces_give_the_scores_of_the_whole(
    tmp_path: Path, num_threads: int, num_candidates: int
) -> None:
    toy = Toy()
    scorer, slate = Scorer(toy.save(tmp_path), 1), slate_of(toy, num_candidates)
    (whole,) = scorer.score_many([slate])

    with threads(num_threads) as workers:
        found = scored(scorer, slate, workers)

    assert isinstance(found, np.ndarray)
    assert isinstance(whole, np.ndarray)
    assert found.shape == (num_candidates,)
    np.testing.assert_allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("num_threads", "num_candidates", "pieces"),
    [(4, 8 * LEAST, 4), (4, 3 * LEAST - 1, 2), (4, 2 * LEAST - 1, 1), (1, 8 * LEAST, 1)],
)
def test_there_are_as_many_pieces_as_idle_threads_unless_they_were_short(
    tmp_path: Path, num_threads: int, num_candidates: int, pieces: int
) -> None:
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path), 1)

    with threads(num_threads) as workers:
        scored(scorer, slate_of(toy, num_candidates), workers)

    assert workers.num_given == pieces
    assert workers.num_idle == num_threads


def test_a_slate_stays_whole_where_the_others_are_busy(tmp_path: Path) -> None:
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path), 1)

    with threads(3) as workers, all_but_one_busy(workers, 3):
        given = workers.num_given
        scored(scorer, slate_of(toy, 8 * LEAST), workers)

        assert workers.num_given == given + 1


def test_pieces_that_nobody_begins_are_done_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy()
    scorer, slate = Scorer(toy.save(tmp_path), 1), slate_of(toy, 8 * LEAST)
    (whole,) = scorer.score_many([slate])
    monkeypatch.setattr(Workers, "num_idle", 3)  # they got other work a moment later

    with threads(1) as workers:
        found = scored(scorer, slate, workers)

    assert workers.num_ended == 1
    assert isinstance(found, np.ndarray)
    assert isinstance(whole, np.ndarray)
    np.testing.assert_allclose(found, whole, atol=1e-6)


def test_a_score_that_is_not_finite_in_any_piece_fails_the_slate(tmp_path: Path) -> None:
    logits = [0.0] * 32
    logits[int(VOCABULARY_OF_TOYS.item_rows(["i5"])[0])] = float("nan")
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path, score=listed_score_graph(logits)), 1)
    slate = slate_of(toy, 2 * LEAST)
    items = np.full(2 * LEAST, VOCABULARY_OF_TOYS.item_rows(["i4"])[0])
    items[-1] = VOCABULARY_OF_TOYS.item_rows(["i5"])[0]

    with threads(2) as workers:
        found = scored(scorer, Slate(slate.state, slate.recent, slate.context, items), workers)

    assert isinstance(found, ArtifactError)
