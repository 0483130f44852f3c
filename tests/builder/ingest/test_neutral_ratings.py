"""Ratings between the two limits are as if they had never been given."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.errors import EventsError
from models.contract.schema import FIRST_KNOWN
from tests.builder.logs import ingest_at, log_frame, write_log

LIMITS: dict[str, Any] = {"positive_from": 4, "negative_to": 2, "columns": {"label": "stars"}}


def rated(stars: list[float]) -> pl.DataFrame:
    return log_frame().with_columns(stars=pl.Series(stars * (40 // len(stars))))


def test_ratings_between_the_limits_are_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = rated([1.0, 4.0, 5.0, 3.0, 2.0])

    with caplog.at_level(logging.INFO):
        events = ingest_at(write_log(tmp_path, frame, data=LIMITS))

    assert "events.csv: dropped 8 of 40 events, with ratings between 2 and 4" in caplog.text
    items = np.array(events.vocabulary.items)[events.item - FIRST_KNOWN].tolist()
    users = np.repeat(events.user_ids, np.diff(events.offsets)).tolist()
    kept = frame.filter(pl.col("stars") != 3).sort("user_id", maintain_order=True)
    assert list(zip(users, items, events.label.tolist(), strict=True)) == [
        (user, item, int(stars >= 4))
        for user, item, stars in kept["user_id", "item_id", "stars"].iter_rows()
    ]
    assert "i3" not in events.vocabulary.items  # only ever rated 3
    assert events.popularity.sum() == 32


def test_limits_themselves_are_kept(tmp_path: Path) -> None:
    events = ingest_at(write_log(tmp_path, rated([2.0, 4.0, 2.5, 3.5, 4.5]), data=LIMITS))

    assert len(events.label) == 24
    assert events.label.sum() == 16


def test_without_the_lower_limit_nothing_is_dropped(tmp_path: Path) -> None:
    data = {key: value for key, value in LIMITS.items() if key != "negative_to"}

    events = ingest_at(write_log(tmp_path, rated([1.0, 4.0, 5.0, 3.0, 2.0]), data=data))

    assert len(events.label) == 40
    assert events.label.sum() == 16


def test_log_of_neutral_ratings_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match=r"events: got only ratings between data\.negative_to"):
        ingest_at(write_log(tmp_path, rated([3.0]), data=LIMITS))
