"""Keys of `[data]` that say how files are read: CSV options, rows to leave out, missing values, times as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from models.contract.errors import did_you_mean

OnNull = Literal["drop", "unknown", "refuse"]


@dataclass(frozen=True)
class CsvRule:
    """How CSV files are written. Source "files" only."""

    separator: str | None = None
    """The character between columns. Unset: a comma; a tab in files named .tsv."""
    quote: str = '"'
    """The character around values that hold separators. "": values are not quoted."""
    decimal_comma: bool = False
    """Numbers are written as 3,5 or 1.234,5."""
    encoding: str = "utf-8"
    """Python's name of the encoding, such as "latin-1". Files in another encoding than UTF-8 are read into memory."""
    names: tuple[str, ...] = ()
    """Names of all columns, for files without a header line. Empty: the first line has the names."""
    nulls: tuple[str, ...] = ()
    """Texts that mean a missing value, such as "NULL". An empty value is always missing."""

    def __post_init__(self) -> None:
        for key, value in (("separator", self.separator), ("quote", self.quote or None)):
            if value is not None and len(value.encode()) != 1:
                raise ValueError(f"{key}: got {value!r}, expected one ASCII character")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names: got {list(self.names)}, expected different names")
        try:
            "".encode(self.encoding)
        except (LookupError, ValueError) as error:
            expected = 'an encoding that Python knows, such as "utf-8" or "latin-1"'
            raise ValueError(f"encoding: got {self.encoding!r}, expected {expected}") from error


def filter_problems(condition: str | None) -> list[str]:
    """What is wrong with `data.filter` as SQL, one sentence; its columns are compared with the files by `ingest`."""
    if condition is None:
        return []
    # Here: training reads recipes too, and needs no polars for that.
    import polars as pl

    try:
        columns = pl.sql_expr(condition).meta.root_names()
    except pl.exceptions.PolarsError as error:
        first = str(error).splitlines()[0]
        return [f"data.filter: got {condition!r} ({first}), expected an SQL condition on columns"]
    if not columns:
        return [f"data.filter: got {condition!r}, expected a condition that names a column"]
    return []


def zone_problems(zone: str | None) -> list[str]:
    """What is wrong with `data.time_zone`, one sentence."""
    if zone is None:
        return []
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        pass
    else:
        return []
    hint = did_you_mean(zone, sorted(available_timezones()))
    return [f'data.time_zone: got {zone!r}, expected a name such as "Europe/Berlin"{hint}']


def null_problems(nulls: Mapping[str, OnNull], needed: Mapping[str, str]) -> list[str]:
    """Columns that may not be unknown, one sentence each.

    Args:
        nulls: `data.nulls`.
        needed: columns that every event needs -> their key, such as "data.columns.user".
    """
    return [
        f'data.nulls.{column}: got "unknown" for {needed[column]}, expected "drop" or "refuse"'
        for column, choice in nulls.items()
        if choice == "unknown" and column in needed
    ]
