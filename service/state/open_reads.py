"""Reads of the cache that have not ended, so that a change of the record keeps their result out of the tiers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from service.generations.serving import Serving

Key = tuple[str, str, str]
"""Model, place of the generation (`Generation.place`) and user id."""


@dataclass(slots=True, eq=False)
class OpenRead:
    """One read of a user's record that began and has not ended.

    Attributes:
        serving: the generation that is read.
        user_id: raw id.
        is_outdated: the record changed after the read began, so its result must not be stored.
    """

    serving: Serving
    user_id: str
    is_outdated: bool = False

    @property
    def key(self) -> Key:
        """What names the record. Not the `Serving`: another may begin to serve the same records during the read."""
        generation = self.serving.generation
        return generation.model, generation.place, self.user_id


class OpenReads:
    """All reads that have not ended. Used on the event loop only."""

    def __init__(self) -> None:
        self._reads: dict[Key, list[OpenRead]] = {}

    def __len__(self) -> int:
        """Number of reads that have not ended."""
        return sum(map(len, self._reads.values()))

    def begin(self, serving: Serving, user_id: str) -> OpenRead:
        """Note a read, before the cache is asked; `end` must follow."""
        read = OpenRead(serving, user_id)
        self._reads.setdefault(read.key, []).append(read)
        return read

    def end(self, read: OpenRead) -> None:
        """Note the end of a read."""
        same = self._reads[read.key]
        same.remove(read)
        if not same:
            del self._reads[read.key]

    def outdate(self, key: Key) -> Iterable[OpenRead]:
        """Mark the reads of one record as outdated; returns them."""
        return _outdated(self._reads.get(key, ()))

    def outdate_user(self, is_meant: Callable[[str], bool]) -> Iterable[OpenRead]:
        """Mark the reads of some users in every generation as outdated; returns them.

        Args:
            is_meant: whether a user id is one of theirs.
        """
        meant = [same for (_, _, user_id), same in self._reads.items() if is_meant(user_id)]
        return _outdated(read for same in meant for read in same)

    def outdate_all(self) -> Iterable[OpenRead]:
        """Mark every read as outdated; returns them."""
        return _outdated(read for same in self._reads.values() for read in same)


def _outdated(reads: Iterable[OpenRead]) -> list[OpenRead]:
    def mark() -> Iterator[OpenRead]:
        for read in reads:
            read.is_outdated = True
            yield read

    return list(mark())
