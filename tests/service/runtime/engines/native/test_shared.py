"""Threads that share one call write the logits that one thread writes alone, whenever the helpers come."""

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from service.errors import ScoreError
from service.native.library import Library
from service.runtime.engines.native.engine import MIN_SHARE, Isa, NativeEngine
from tests.service.runtime.engines.native.plans import DEFAULT, poison, random_slate
from tests.service.runtime.engines.native.test_engine import each_isa, engine_of, library

__all__ = ["library"]
Work = Callable[[], None]


def in_threads(work: Work, most: int) -> None:
    for _ in range(most):
        threading.Thread(target=work).start()


def at_once(work: Work, most: int) -> None:
    """The helper takes every candidate before the owner begins."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def never(work: Work, most: int) -> None:
    """No thread is idle."""


def both(engine: NativeEngine, number: int, help: Callable[[Work, int], None]) -> None:
    slate = random_slate(DEFAULT, number, number % 140, 32, seed=number)
    (alone,) = engine.score_many([slate])
    (shared,) = engine.score_many([replace(slate, help=help)])
    assert not isinstance(alone, ScoreError)
    assert not isinstance(shared, ScoreError)
    np.testing.assert_array_equal(shared, alone)


@each_isa
@pytest.mark.parametrize("help", [in_threads, at_once, never])
def test_logits_are_those_of_one_thread(
    library: Library, isa: Isa, help: Callable[[Work, int], None]
):
    engine = engine_of(library, isa)
    poison(engine)
    for number in (1, 127, 128, 129, 200, 257, 1000, 3001):
        both(engine, number, help)


@each_isa
def test_a_call_waits_for_helpers_that_have_begun(library: Library, isa: Isa):
    engine = engine_of(library, isa)
    for turn in range(300):
        both(engine, 128 + turn, in_threads)


def test_a_helper_that_comes_after_the_end_changes_nothing(library: Library):
    engine, late = engine_of(library, "generic"), list[Work]()
    slate = random_slate(DEFAULT, 300, 70, 32)
    (logits,) = engine.score_many([replace(slate, help=lambda work, most: late.append(work))])
    assert not isinstance(logits, ScoreError)
    kept = logits.copy()
    engine.close()
    logits[:] = 7.0
    (work,) = late
    at_once(work, 1)
    assert (logits == 7.0).all()
    assert np.isfinite(kept).all()


def test_there_is_a_helper_for_each_further_part(library: Library):
    engine, numbers = engine_of(library, "generic"), list[int]()
    for parts in (1, 2, 5):
        slate = random_slate(DEFAULT, parts * MIN_SHARE, 9, 9)
        engine.score_many([replace(slate, help=lambda work, most: numbers.append(most))])
    assert numbers == [1, 4]


@each_isa
@pytest.mark.parametrize("help", [in_threads, at_once, never])
def test_a_row_outside_of_the_catalogue_is_refused(
    library: Library, isa: Isa, help: Callable[[Work, int], None]
):
    engine = engine_of(library, isa)
    slate = random_slate(DEFAULT, 300, 70, 32)
    slate.items[299] = DEFAULT.num_items
    (result,) = engine.score_many([replace(slate, help=help)])
    assert isinstance(result, ScoreError)
    assert "items: got a row" in str(result)
