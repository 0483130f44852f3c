"""One Parquet or CSV file as a lazy table."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from builder.errors import EventsError
from builder.recipe.reading import CsvRule

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst")
SUFFIXES = (*PARQUET, *CSV)
DECIMAL_COMMA = r"^-?\d+(\.\d{3})*,\d+$"
"""A number with a decimal comma, perhaps with dots between thousands."""


@dataclass(frozen=True)
class Scan:
    """A file that is not read yet.

    Attributes:
        lazy: its rows.
        texts: columns that hold texts because the file cannot say what they are: all of a CSV, and parts of the path.
    """

    lazy: pl.LazyFrame
    texts: frozenset[str]

    @property
    def names(self) -> list[str]:
        """All columns."""
        return self.lazy.collect_schema().names()


def scan(path: Path, rule: CsvRule | None = None) -> Scan:
    """Look at a file.

    Args:
        path: the file; its kind is known by its name.
        rule: how a CSV file is written; None: in the usual way.

    Raises:
        EventsError: the name says neither Parquet nor CSV, or the file has not as many columns as `rule.names`.
        OSError: the file cannot be read.
        PolarsError: it is damaged.
    """
    name = path.name.lower()
    if name.endswith(PARQUET):
        found = Scan(pl.scan_parquet(path), frozenset())
    elif name.endswith(CSV):
        lazy = _scan_csv(path, rule or CsvRule(), "\t" if ".tsv" in name else ",")
        found = Scan(lazy, frozenset(lazy.collect_schema().names()))
    else:
        expected = "expected .parquet or .csv (or .tsv, .csv.gz, .csv.zst)"
        raise EventsError(str(path), f"got a file named *{path.suffix}, {expected}")
    keys = {key: value for key, value in path_values(path).items() if key not in found.names}
    columns = [pl.lit(value, dtype=pl.String).alias(key) for key, value in keys.items()]
    return Scan(found.lazy.with_columns(columns), found.texts.union(keys))


def path_values(path: Path) -> dict[str, str | None]:
    """Columns that stand in a path, such as day=2025-01-31; Hive writes a missing value in its own way."""
    parts = (part.partition("=") for part in path.parent.parts)
    return {
        key: None if value == "__HIVE_DEFAULT_PARTITION__" else value
        for key, sign, value in parts
        if sign and key
    }


def is_table(path: Path) -> bool:
    """Whether a file of a folder is one of its tables: not a marker, a checksum or a hidden file."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(("_", "."))


def _scan_csv(path: Path, rule: CsvRule, separator: str) -> pl.LazyFrame:
    is_utf8 = re.sub(r"[-_]", "", rule.encoding.lower()) in ("utf8", "utf8sig")
    try:
        source = path if is_utf8 else path.read_bytes().decode(rule.encoding).encode()
    except UnicodeDecodeError as error:
        problem = f"got bytes that are not {rule.encoding} ({error.reason} at byte {error.start})"
        raise EventsError(str(path), f"{problem}, expected data.csv.encoding to fit") from error
    # Everything as text: inferred types would turn the id 007 into 7.
    lazy = pl.scan_csv(
        source,
        infer_schema=False,
        has_header=not rule.names,
        separator=rule.separator or separator,
        quote_char=rule.quote or None,
        null_values=list(rule.nulls) or None,
    )
    if rule.names:
        lazy = _named(path, lazy, rule.names)
    return _with_points(lazy) if rule.decimal_comma else lazy


def _named(path: Path, lazy: pl.LazyFrame, names: Iterable[str]) -> pl.LazyFrame:
    there, names = lazy.collect_schema().names(), list(names)
    if len(there) != len(names):
        problem = f"got {len(there)} columns, expected {len(names)} as in data.csv.names"
        raise EventsError(str(path), problem)
    return lazy.rename(dict(zip(there, names, strict=True)))


def _with_points(lazy: pl.LazyFrame) -> pl.LazyFrame:
    """3,5 and 1.234,5 as 3.5 and 1234.5."""
    texts = pl.all()
    as_point = texts.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    return lazy.with_columns(
        pl.when(texts.str.contains(DECIMAL_COMMA)).then(as_point).otherwise(texts)
    )
