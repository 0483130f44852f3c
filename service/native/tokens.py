"""Reads the common body of a score request by C; `tokens.c` says which bodies.

No Python string is made for a candidate: ids stay places in the body until somebody looks at them.
"""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from service.native.library import NativeLibraryError, open_library

USER, MODEL, TOP_K, CANDIDATES, RECENT, NUM_CONTEXT, NUM_NAMES, NUM_CELLS, CONTEXT = (
    *(0, 2, 4, 5, 7, 9, 10, 11, 12),
)
"""Places in the head; `tokens.h` has the same numbers."""
NAMES = CONTEXT + 5 * 64
HEAD_LENGTH = NAMES + 2 * 32
VALUE_TYPES = (str, int, float)
"""Type of a context value by its kind in the head."""
Places = NDArray[np.int32]


class _Room(ctypes.Structure):
    _fields_ = (
        ("spans", ctypes.c_void_p),
        ("cells", ctypes.c_void_p),
        ("max_spans", ctypes.c_int32),
        ("max_cells", ctypes.c_int32),
        ("max_candidates", ctypes.c_int32),
        ("max_recent", ctypes.c_int32),
    )


class Functions:
    """The functions of tokens.c. They keep the interpreter's lock: each takes less time than waiting for it again."""

    def __init__(self) -> None:
        """Open the library.

        Raises:
            NativeLibraryError: it cannot be used.
        """
        path = open_library().path
        try:
            self._bind(ctypes.PyDLL(str(path.resolve())))
        except AttributeError as error:
            raise NativeLibraryError(f"native library: {path} is older: {error}") from error

    def _bind(self, library: ctypes.PyDLL) -> None:
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.read_score = library.absorb_read_score
        self.read_score.argtypes = [ctypes.c_char_p, number, pointer, pointer]
        self.fill_table = library.absorb_fill_table
        self.fill_table.argtypes = [pointer, pointer, pointer, number]
        self.fill_table.restype = None
        self.find_rows = library.absorb_find_rows
        self.find_rows.argtypes = [
            *(pointer, ctypes.c_char_p, pointer, number, ctypes.c_int32, pointer)
        ]
        self.find_rows.restype = number
        self.find_cells = library.absorb_find_cells
        self.find_cells.argtypes = [*(pointer, ctypes.c_char_p, pointer, number, pointer, pointer)]
        self.find_cells.restype = None
        self.find_buckets = library.absorb_find_buckets
        self.find_buckets.argtypes = self.find_cells.argtypes
        self.find_buckets.restype = number


@dataclass(frozen=True, slots=True, eq=False)
class RawIds(Sequence[str]):
    """Raw ids that are still in a body.

    Attributes:
        body: the request's body.
        spans: where each id begins, and its length, [num ids, 2], C-contiguous.
        address: of `spans`, which numpy takes a microsecond to tell.
    """

    body: bytes
    spans: Places
    address: int

    def __len__(self) -> int:
        """Number of ids."""
        return len(self.spans)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> "RawIds": ...

    def __getitem__(self, at: int | slice) -> "str | RawIds":
        """One id, or some of them."""
        if isinstance(at, slice):
            spans = np.ascontiguousarray(self.spans[at])
            return RawIds(self.body, spans, spans.ctypes.data)
        begin, length = self.spans[at].tolist()
        return self.body[begin : begin + length].decode("ascii")

    def __iter__(self) -> Iterator[str]:
        """Every id."""
        text = self.body.decode("ascii")
        return iter([text[begin : begin + length] for begin, length in self.spans.tolist()])


class RawColumn(Sequence[str | None]):
    """Values of a candidate field that are still in a body; None for a candidate that has none."""

    def __init__(self, body: bytes, cells: Places, number: int, rows: range) -> None:
        """Look at nothing yet.

        Args:
            body: the request's body.
            cells: candidate, number of the field, and place and length of its value, [num values, 4].
            number: number of the field in `cells`.
            rows: the candidates, which follow each other.
        """
        self.body, self.cells, self.number, self.rows = body, cells, number, rows
        self._values: list[str | None] | None = None

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> str | None: ...

    @overload
    def __getitem__(self, at: slice) -> "RawColumn": ...

    def __getitem__(self, at: int | slice) -> "str | RawColumn | None":
        """The value of one candidate, or the values of some."""
        if isinstance(at, slice):
            return RawColumn(self.body, self.cells, self.number, self.rows[at])
        return self._read()[at]

    def __iter__(self) -> Iterator[str | None]:
        """Every value."""
        return iter(self._read())

    def _read(self) -> list[str | None]:
        if self._values is None:
            values: list[str | None] = [None] * len(self.rows)
            text = self.body.decode("ascii")
            for candidate, number, begin, length in self.cells.tolist():
                if number == self.number and candidate in self.rows:
                    values[self.rows.index(candidate)] = text[begin : begin + length]
            self._values = values
        return self._values


class ScoreBody(NamedTuple):
    """A body of `POST /v1/score`; each value as in `ScoreRequest`."""

    user_id: str
    ids: RawIds
    fields: Mapping[str, RawColumn]
    recent: RawIds | None
    context: Mapping[str, str | int | float]
    model: str | None
    top_k: int | None


class ScoreReader:
    """Reads bodies. Several threads may use it at once."""

    def __init__(self, functions: Functions, max_candidates: int, max_recent: int) -> None:
        """Store the limits.

        Args:
            functions: the functions of the library.
            max_candidates: most candidates of a body.
            max_recent: most items of its `recent`.
        """
        self._read = functions.read_score
        self._max_candidates, self._max_recent = max_candidates, max_recent

    def read(self, raw: bytes) -> ScoreBody | None:
        """Read a body; None if it is none of the common ones: it may be wrong, or only unusual."""
        # An element of a list has two bytes with its comma, and a value of a field five with its name. To count commas
        # would take longer than to read the body.
        max_spans = min(len(raw) // 2 + 2, self._max_candidates + self._max_recent)
        max_cells = len(raw) // 5 + 1
        cells_at = HEAD_LENGTH + 2 * max_spans
        memory = np.empty(cells_at + 4 * max_cells, np.int32)
        address = memory.ctypes.data
        spans_address = address + 4 * HEAD_LENGTH
        room = _Room(
            *(spans_address, address + 4 * cells_at, max_spans, max_cells),
            *(self._max_candidates, self._max_recent),
        )
        if not self._read(raw, len(raw), address, ctypes.byref(room)):
            return None
        facts: list[int] = memory[:CONTEXT].tolist()
        at, model_at, model_length = facts[USER], facts[MODEL], facts[MODEL + 1]
        number = facts[CANDIDATES + 1]

        def ids(first: int, number: int) -> RawIds:
            begin = HEAD_LENGTH + 2 * first
            spans = memory[begin : begin + 2 * number].reshape(-1, 2)
            return RawIds(raw, spans, spans_address + 8 * first)

        return ScoreBody(
            raw[at : at + facts[USER + 1]].decode("ascii"),
            ids(facts[CANDIDATES], number),
            _fields(raw, memory, cells_at, facts, number) if facts[NUM_NAMES] else {},
            None if facts[RECENT + 1] < 0 else ids(facts[RECENT], facts[RECENT + 1]),
            _context(raw, memory, facts[NUM_CONTEXT]) if facts[NUM_CONTEXT] else {},
            None if model_length < 0 else _text(raw, model_at, model_length),
            facts[TOP_K] or None,
        )


def _text(raw: bytes, at: int, length: int) -> str:
    return raw[at : at + length].decode("ascii")


def _fields(
    raw: bytes, memory: Places, cells_at: int, facts: list[int], num_candidates: int
) -> dict[str, RawColumn]:
    num_names, num_cells = facts[NUM_NAMES], facts[NUM_CELLS]
    names = memory[NAMES : NAMES + 2 * num_names].tolist()
    cells = memory[cells_at : cells_at + 4 * num_cells].reshape(-1, 4)
    rows = range(num_candidates)
    return {
        _text(raw, names[2 * number], names[2 * number + 1]): RawColumn(raw, cells, number, rows)
        for number in range(num_names)
    }


def _context(raw: bytes, memory: Places, number: int) -> dict[str, str | int | float]:
    values: dict[str, str | int | float] = {}
    entries = memory[CONTEXT : CONTEXT + 5 * number].tolist()
    for at in range(0, 5 * number, 5):
        key_at, key_length, value_at, value_length, kind = entries[at : at + 5]
        text = _text(raw, value_at, value_length)
        values[_text(raw, key_at, key_length)] = VALUE_TYPES[kind](text)
    return values
