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
