"""How a long step reports its progress. Steps know this protocol only; the command line knows the terminal."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@runtime_checkable  # tests check annotations at run time
class Progress(Protocol):
    """Called with how much is done, out of how much, and a note for the reader."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report."""


def silent(done: int, total: int, note: str = "") -> None:
    """Report nothing."""


def counted(items: Iterable[T], total: int, progress: Progress, note: str = "") -> Iterator[T]:
    """Pass `items` on and report each."""
    progress(0, total, note)
    for done, item in enumerate(items, 1):
        yield item
        progress(done, total, note)


class Counted:
    """Adds up what arrives in batches, and reports the sum.

    Args:
        total: number of items that will arrive.
        progress: called with the sum after each batch.
        note: text for the reader.
    """

    def __init__(self, total: int, progress: Progress, note: str = "") -> None:
        self._total, self._progress, self._note = total, progress, note
        self._done = 0
        progress(0, total, note)

    def add(self, number: int) -> None:
        """Report `number` more items as done."""
        self._done += number
        self._progress(self._done, self._total, self._note)
