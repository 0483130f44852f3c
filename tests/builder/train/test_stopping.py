"""Training ends when validation has stopped improving; equal GAUCs are told apart by log loss."""

import math

import pytest

from builder.train.learning_rate import DROP
from builder.train.stopping import Stopping


def line(gauc: float | None, log_loss: float = 0.5, auc: float = 0.5) -> dict[str, float | None]:
    return {"gauc": gauc, "auc": auc, "log_loss": log_loss}


def fed(stopping: Stopping, *gaucs: float | None) -> list[bool]:
    return [stopping.add(line(gauc)) for gauc in gaucs]


def test_patience_counts_validations_since_the_best() -> None:
    stopping = Stopping(patience=2)

    assert fed(stopping, 0.6, 0.5, 0.7, 0.7) == [True, False, True, False]
    assert not stopping.is_out_of_patience
    fed(stopping, 0.69)

    assert stopping.is_out_of_patience
    assert stopping.best == 2


def test_without_patience_it_never_ends() -> None:
    stopping = Stopping(patience=0)
    fed(stopping, *[0.6] * 100)
    assert not stopping.is_out_of_patience


def test_equal_gaucs_are_told_apart_by_log_loss() -> None:
    stopping = Stopping(patience=3)
    assert [stopping.add(line(0.6, loss)) for loss in (0.5, 0.6, 0.4)] == [True, False, True]


def test_auc_counts_where_slates_have_none_of_their_own() -> None:
    stopping = Stopping(patience=3)
    assert [stopping.add(line(None, auc=auc)) for auc in (0.6, 0.7, 0.65)] == [True, True, False]


def test_a_diverged_model_is_never_the_best_again() -> None:
    stopping = Stopping(patience=2)
    assert fed(stopping, math.nan, 0.5, math.nan, math.nan) == [True, True, False, False]
    assert stopping.is_out_of_patience


def test_the_rate_drops_before_patience_ends_training() -> None:
    stopping = Stopping(patience=2, drops=1)

    fed(stopping, 0.6, 0.5, 0.5)
    assert not stopping.is_out_of_patience
    assert stopping.share_of_rate == pytest.approx(DROP)
    fed(stopping, 0.5, 0.5)

    assert stopping.is_out_of_patience
