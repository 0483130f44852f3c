"""Raw ids -> dense ids of one artifact: by C for ids that are still in a body, else by the vocabulary."""

import ctypes
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.contract.field_reader import NumberReader
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from models.contract.vocabulary import Vocabulary, check_candidate_fields
from service.native.library import NativeLibraryError
from service.native.tokens import Functions, RawColumn, RawIds

ENTRY_WORDS = 4
"""64-bit words of an entry of a table."""

Ids = NDArray[np.int64]


class _Table(ctypes.Structure):
    _fields_ = (
        ("entries", ctypes.c_void_p),
        ("text", ctypes.c_void_p),
        ("mask", ctypes.c_uint64),
    )


class _Column(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_int32),
        ("begin", ctypes.c_int32),
        ("end", ctypes.c_int32),
        ("missing", ctypes.c_int32),
        ("stride", ctypes.c_int64),
    )


class Table:
    """A hash table of raw ids. Its memory is numpy's, and freed with it. Read-only: threads may share it."""

    def __init__(self, functions: Functions, ids: Sequence[str], first: int) -> None:
        """Fill the table.

        Args:
            functions: the functions of the library.
            ids: distinct ids, in the order of their rows. Bodies that are read here are ASCII, so others are left out.
            first: row of the first id.
        """
        self._functions = functions
        known = [(id_, row) for row, id_ in enumerate(ids, first) if id_.isascii()]
        ends = np.cumsum([len(id_) for id_, _ in known], dtype=np.uint64).astype(np.uint32)
        rows = np.array([row for _, row in known], np.int32)
        size = 1 << max(4, (2 * len(known)).bit_length())
        self._entries = np.zeros((size, ENTRY_WORDS), np.uint64)
        self._text = np.frombuffer("".join([id_ for id_, _ in known]).encode("ascii"), np.uint8)
        self._table = _Table(self._entries.ctypes.data, self._text.ctypes.data, size - 1)
        self._at = ctypes.addressof(self._table)
        functions.fill_table(self._at, ends.ctypes.data, rows.ctypes.data, len(known))

    def rows(self, ids: RawIds, missing: int) -> Ids:
        """Row of each id; `missing` for ids that the table does not hold."""
        number = len(ids.spans)
        rows = np.empty(number, np.int64)
        self._functions.find_rows(
            *(self._at, ids.body, ids.address, number, missing, rows.ctypes.data)
        )
        return rows

    def fill(self, column: RawColumn, missing: int, ids: Ids) -> None:
        """Write the id of each value of a field.

        Args:
            column: the values.
            missing: id of a value that the table does not hold.
            ids: a column of a C-contiguous array, one id for each candidate; candidates without a value keep theirs.
        """
        rows = column.rows
        place = _Column(column.number, rows.start, rows.stop, missing, ids.strides[0] // 8)
        cells = column.cells
        self._functions.find_cells(
            *(self._at, column.body, cells.ctypes.data, len(cells)),
            *(ctypes.byref(place), ids.ctypes.data),
        )


class _Edges(ctypes.Structure):
    _fields_ = (
        ("edges", ctypes.c_void_p),
        ("number", ctypes.c_int64),
        ("first", ctypes.c_int64),
    )


class Buckets:
    """The buckets of a numeric field. Its memory is numpy's, and freed with it. Read-only: threads may share it."""

    def __init__(self, functions: Functions, reader: NumberReader) -> None:
        """Copy the edges.

        Args:
            functions: the functions of the library.
            reader: of the field.
        """
        self._find = functions.find_buckets
        self._missing = reader.last_listed
        self._numbers = np.array(reader.edges, np.float64)
        first = FIRST_KNOWN + reader.has_missing
        self._edges = _Edges(self._numbers.ctypes.data, len(self._numbers), first)
        self._at = ctypes.addressof(self._edges)

    def fill(self, column: RawColumn, ids: Ids) -> bool:
        """Write the id of each value; returns whether all of them could be read here.

        Args:
            column: the values.
            ids: a column of a C-contiguous array, one id for each candidate.
        """
        ids[:] = self._missing
        rows, cells = column.rows, column.cells
        place = _Column(column.number, rows.start, rows.stop, 0, ids.strides[0] // 8)
        unread: int = self._find(
            *(self._at, column.body, cells.ctypes.data, len(cells)),
            *(ctypes.byref(place), ids.ctypes.data),
        )
        return unread == 0


class Rows:
    """Finds catalogue rows and ids of candidate fields. Read-only: threads may share it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Make hash tables of the items and of categorical candidate fields, if the native library can be used.

        Args:
            vocabulary: of the artifact.
        """
        self._vocabulary = vocabulary
        self._items: Table | None = None
        self._fields: dict[str, Table] = {}
        self._buckets: dict[str, Buckets] = {}
        try:
            functions = Functions()
        except NativeLibraryError:
            return
        self._items = Table(functions, vocabulary.items, FIRST_KNOWN)
        readers = vocabulary.readers.get("candidate", {})
        self._buckets = {
            name: Buckets(functions, reader)
            for name, reader in readers.items()
            if isinstance(reader, NumberReader)
        }
        self._fields = {
            name: Table(functions, values, FIRST_KNOWN)
            for name, values in vocabulary.candidate.items()
            if name not in readers
        }

    def items(self, ids: Sequence[str]) -> Ids:
        """Catalogue rows of raw item ids; `UNKNOWN` for ids that are not in the catalogue."""
        if isinstance(ids, RawIds) and self._items is not None:
            return self._items.rows(ids, UNKNOWN)
        return self._vocabulary.item_rows(ids)

    def fields(self, values: Mapping[str, Sequence[str | None]], num_candidates: int) -> Ids:
        """As `Vocabulary.candidate_ids`."""
        known = self._vocabulary.candidate
        check_candidate_fields(values, known)
        ids = np.full((num_candidates, len(known)), UNKNOWN, np.int64)
        for at, name in enumerate(known):
            column = values.get(name)
            if not (isinstance(column, RawColumn) and self._fill(name, column, ids[:, at])):
                ids[:, at] = self._vocabulary.candidate_column(name, column)
        return ids

    def _fill(self, name: str, column: RawColumn, ids: Ids) -> bool:
        """Write the ids of a field by C; returns whether that could be done."""
        table, buckets = self._fields.get(name), self._buckets.get(name)
        if table is not None:
            table.fill(column, UNKNOWN, ids)
        return table is not None or (buckets is not None and buckets.fill(column, ids))
