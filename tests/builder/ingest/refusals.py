"""Logs with one wrong value, and the error that refuses them."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builder.errors import EventsError
from tests.builder.logs import ingest_at, log_frame, write_log


def refusal(folder: Path, frame: pl.DataFrame, **sections: Any) -> str:
    with pytest.raises(EventsError) as caught:
        ingest_at(write_log(folder, frame, **sections))
    return str(caught.value)


def with_value(column: str, row: int, value: Any) -> pl.DataFrame:
    """The usual log as text, with one value replaced."""
    frame = log_frame().cast(pl.String)
    values = frame[column].to_list()
    values[row] = value
    return frame.with_columns(pl.Series(column, values))
