"""Files of packed records, as the builder writes them (`builder/export/precompute.py`)."""

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

LENGTH = struct.Struct("<I")
"""Before each record: its number of bytes."""


def read_record_file(path: Path) -> list[bytes]:
    """All packed records of a file.

    Raises:
        ValueError: the file holds no record.
    """
    records = list(split_records(path))
    if not records:
        raise ValueError(f"records: got no record in {path}, expected at least one")
    return records


def split_records(path: Path) -> Iterator[bytes]:
    """The packed records of a file of the builder, which may be gzipped (`.gz`)."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    start = 0
    while start < len(content):
        (size,) = LENGTH.unpack_from(content, start)
        start += LENGTH.size
        yield content[start : start + size]
        start += size
