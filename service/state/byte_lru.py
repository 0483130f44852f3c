"""A cache in memory whose limit is in bytes. When it is full, the least recently used entry is evicted.

Entries belong to groups: one per serving generation. The time of an operation does not grow with the number of entries;
an eviction compares the oldest entry of each group. Not thread-safe.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    num_bytes: int
    until_s: float
    used_at: int


@dataclass(eq=False)
class _Group(Generic[Value]):
    """Entries of one group, the least recently used first."""

    entries: OrderedDict[str, _Entry[Value]] = field(default_factory=OrderedDict)
    num_bytes: int = 0


class ByteLru(Generic[Key, Value]):
    """Entries by group and name, never larger than `limit_bytes` in sum.

    A group accepts entries between `open` and `close`. Closing it makes its entries unreachable at once; `sweep` frees
    them a few at a time, since freeing 100,000 at once would block the event loop for tens of milliseconds. Until they
    are freed they count towards the limit, and they are evicted first.

    Attributes:
        limit_bytes: largest sum of the entries' sizes.
        num_bytes: sum of the entries' sizes, entries of closed groups included.
        num_entries: number of entries, those of closed groups included.
        evictions: number of entries of open groups that were removed to make room.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.num_bytes = 0
        self.num_entries = 0
        self.evictions = 0
        self._groups: dict[Key, _Group[Value]] = {}
        self._closed: list[_Group[Value]] = []
        self._clock = 0

    def open(self, group: Key) -> None:
        """Accept entries of a group from now on."""
        self._groups.setdefault(group, _Group())

    def close(self, group: Key) -> None:
        """Make a group's entries unreachable, and accept no more of them."""
        closed = self._groups.pop(group, None)
        if closed is not None:
            self._closed.append(closed)

    def size_of(self, group: Key) -> tuple[int, int]:
        """Number of entries of an open group, and the sum of their sizes in bytes."""
        opened = self._groups.get(group)
        return (len(opened.entries), opened.num_bytes) if opened else (0, 0)

    def names(self, group: Key) -> list[str]:
        """Names of the entries of an open group, expired ones included."""
        opened = self._groups.get(group)
        return list(opened.entries) if opened else []

    def get(self, group: Key, name: str, now_s: float) -> Value | None:
        """The value under a name, which becomes the most recently used; None if it is absent or expired."""
        opened = self._groups.get(group)
        entry = opened.entries.get(name) if opened else None
        if opened is None or entry is None:
            return None
        if now_s >= entry.until_s:
            self._remove(opened, name)
            return None
        opened.entries.move_to_end(name)
        self._clock = entry.used_at = self._clock + 1
        return entry.value

    def until_s(self, group: Key, name: str) -> float | None:
        """When the entry under a name expires; None if there is none. Does not count as a use."""
        opened = self._groups.get(group)
        entry = opened.entries.get(name) if opened else None
        return entry.until_s if entry else None

    def put(self, group: Key, name: str, value: Value, num_bytes: int, until_s: float) -> bool:
        """Store a value, in place of an older one with the same name.

        Args:
            group: nothing is stored unless it is open.
            name: key within the group.
            value: what `get` returns.
            num_bytes: size of the whole entry; an entry above the limit is not stored.
            until_s: when it expires, on the clock of `get`.

        Returns:
            Whether it was stored.
        """
        opened = self._groups.get(group)
        if opened is None:
            return False
        if name in opened.entries:
            self._remove(opened, name)
        if num_bytes > self.limit_bytes:
            return False
        while self.num_bytes + num_bytes > self.limit_bytes:
            self._evict()
        self._clock += 1
        opened.entries[name] = _Entry(value, num_bytes, until_s, self._clock)
        opened.num_bytes += num_bytes
        self.num_bytes += num_bytes
        self.num_entries += 1
        return True

    def remove(self, group: Key, name: str) -> None:
        """Remove one entry, if it exists."""
        opened = self._groups.get(group)
        if opened is not None and name in opened.entries:
            self._remove(opened, name)

    def sweep(self, num_entries: int) -> bool:
        """Free up to `num_entries` entries of closed groups; False once none is left."""
        return all(self._drop_closed() for _ in range(num_entries))

    def _drop_closed(self) -> bool:
        while self._closed:
            if self._closed[-1].entries:
                self._remove_oldest(self._closed[-1])
                return True
            self._closed.pop()
        return False

    def _evict(self) -> None:
        if self._drop_closed():
            return
        filled = (group for group in self._groups.values() if group.entries)
        self._remove_oldest(min(filled, key=_last_use_of_oldest))
        self.evictions += 1

    def _remove_oldest(self, group: _Group[Value]) -> None:
        self._remove(group, next(iter(group.entries)))

    def _remove(self, group: _Group[Value], name: str) -> None:
        num_bytes = group.entries.pop(name).num_bytes
        group.num_bytes -= num_bytes
        self.num_bytes -= num_bytes
        self.num_entries -= 1


def _last_use_of_oldest(group: _Group[Value]) -> int:
    return next(iter(group.entries.values())).used_at
