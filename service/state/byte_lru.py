"""A bounded table in this process's memory: least recently used entries leave first. Counted in bytes.

Every operation takes a time that does not grow with the number of entries; the eviction of one looks at the oldest of
each group, and a group is a generation that serves. Belongs to one thread.
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
    """Entries that leave together, the least recently used first."""

    entries: OrderedDict[str, _Entry[Value]] = field(default_factory=OrderedDict)
    num_bytes: int = 0


class ByteLru(Generic[Key, Value]):
    """Entries by group and name, together never more than `limit_bytes`.

    A group is opened before it holds anything. Closing it makes its entries unreachable at once; they are freed by
    `sweep`, a few at a time, since freeing 100,000 at once would hold up the event loop for tens of milliseconds. Until
    then they count, and they are the first to make room.

    Attributes:
        limit_bytes: the limit.
        num_bytes: what the entries weigh, those that wait to be freed included.
        num_entries: how many there are, those included.
        evictions: entries that made room for others.
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
        """Let a group hold entries."""
        self._groups.setdefault(group, _Group())

    def close(self, group: Key) -> None:
        """Forget a group: nothing is found in it or put into it any more."""
        closed = self._groups.pop(group, None)
        if closed is not None:
            self._closed.append(closed)

    def size_of(self, group: Key) -> tuple[int, int]:
        """Entries of a group, and their bytes."""
        found = self._groups.get(group)
        return (len(found.entries), found.num_bytes) if found else (0, 0)

    def get(self, group: Key, name: str, now_s: float) -> Value | None:
        """The value, which is now the most recently used; None if there is none, or if it is too old."""
        found = self._groups.get(group)
        entry = found.entries.get(name) if found else None
        if found is None or entry is None:
            return None
        if now_s >= entry.until_s:
            self._remove(found, name)
            return None
        found.entries.move_to_end(name)
        self._clock = entry.used_at = self._clock + 1
        return entry.value

    def put(self, group: Key, name: str, value: Value, num_bytes: int, until_s: float) -> bool:
        """Keep a value in place of the one of that name.

        Args:
            group: an open one; for another, nothing is kept.
            name: of the value.
            value: what `get` will give.
            num_bytes: what the entry weighs, all in all; one above the limit is not kept.
            until_s: when it is too old, on the clock of `get`.

        Returns:
            Whether it is kept.
        """
        found = self._groups.get(group)
        if found is None:
            return False
        if name in found.entries:
            self._remove(found, name)
        if num_bytes > self.limit_bytes:
            return False
        while self.num_bytes + num_bytes > self.limit_bytes:
            self._evict()
        self._clock += 1
        found.entries[name] = _Entry(value, num_bytes, until_s, self._clock)
        found.num_bytes += num_bytes
        self.num_bytes += num_bytes
        self.num_entries += 1
        return True

    def remove(self, group: Key, name: str) -> None:
        """Forget one entry, if it is there."""
        found = self._groups.get(group)
        if found is not None and name in found.entries:
            self._remove(found, name)

    def sweep(self, num_entries: int) -> bool:
        """Free up to `num_entries` of closed groups; False if there are no more."""
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
