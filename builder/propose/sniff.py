"""How a CSV file is written: encoding, separator, header line, decimal comma."""

import codecs
import re
from itertools import chain
from pathlib import Path

from builder.recipe.reading import CsvRule

LOOK_BYTES = 1 << 18
LINES = 50
NUMBER = re.compile(r"-?\d+([.,]\d+)*([eE][+-]?\d+)?")
WITH_COMMA = re.compile(r"-?\d+(\.\d{3})*,\d+")
NULLS = (
    "NULL",
    "null",
    "-",
    "?",
    "none",
    "nil",
    "undefined",
    "missing",
    "unknown",
    "n.a.",
    "\\N",
    "NA",
    "N/A",
    "n/a",
    "NaN",
    "nan",
    "None",
    "#N/A",
)
"""Words that tools write for a missing value."""


def sniff(path: Path) -> CsvRule:
    """Options that fit the beginning of a plain CSV file; of a packed one, the usual ones.

    Raises:
        OSError: the file cannot be read.
    """
    if path.suffix.lower() in (".gz", ".zst"):
        return CsvRule()
    with path.open("rb") as file:
        raw = file.read(LOOK_BYTES)
    encoding = _encoding(raw)
    lines = [line for line in raw.decode(encoding, "ignore").splitlines() if line.strip()]
    lines = lines[: LINES if len(raw) < LOOK_BYTES else max(1, min(LINES, len(lines) - 1))]
    separator = _separator(lines)
    rows = [[cell.strip().strip('"') for cell in line.split(separator)] for line in lines]
    names = () if not rows or _is_header(rows) else _names(len(rows[0]))
    values = set(chain.from_iterable(rows if names else rows[1:]))
    usual = "\t" if ".tsv" in path.name.lower() else ","
    return CsvRule(
        separator=None if separator == usual else separator,
        decimal_comma=separator != "," and any(map(WITH_COMMA.fullmatch, values)),
        encoding=encoding,
        names=names,
        nulls=tuple(word for word in NULLS if word in values),
    )


def _encoding(raw: bytes) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        # The last character of what was read may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(raw)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _separator(lines: list[str]) -> str:
    """The character that every line has, and most often."""
    counts = {mark: [line.count(mark) for line in lines] for mark in (",", ";", "\t", "|")}
    every: dict[str, int] = {mark: min(each) for mark, each in counts.items() if each}
    every = {mark: least for mark, least in every.items() if least}
    return max(every, key=lambda mark: every[mark]) if every else ","


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first line has names: no number, no gap, no name twice."""
    first = rows[0]
    # A line of texts above lines of texts alone is taken for names, as nearly every file has them.
    has_values = any(not cell or NUMBER.fullmatch(cell) for cell in first)
    return not has_values and len(set(first)) == len(first)


def _names(number: int) -> tuple[str, ...]:
    return tuple(f"column_{place + 1}" for place in range(number))
