"""New items, as a worker knows them, and the users whose records change when one is registered, changed or removed.

A log keeps raw ids, so a record can be made anew with the rows of today. Events of an item that is registered after
they were folded are found in the logs: every user with live events is looked at, and those with events of the items in
question are folded once more. Who starts or switches to a generation cannot know what was registered when its records
were made, and looks for events of all items that the build does not know.
"""

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from models.contract.errors import AbsorbError
from models.contract.schema import UNKNOWN
from models.live.keys import log_key
from models.live.log import read_log
from models.live.new_items import NewItems, registered_since
from models.live.refold import Target

log = logging.getLogger(__name__)


class NewItemWatch:
    """Reads the registered items when they have changed.

    Attributes:
        found: what was read last.
    """

    def __init__(self, client: Any) -> None:
        """Know none until the first look.

        Args:
            client: the cache, redis-py's.
        """
        self._client = client
        self._error = ""
        self.found = NewItems()

    def look(self) -> frozenset[str]:
        """Read; returns the items that were added, removed or got other fields.

        What cannot be read, such as by a worker without the right to, leaves those that were read before.
        """
        before = self.found
        try:
            self.found = registered_since(self._client, before)
            self._error = ""
        except (ResponseError, AbsorbError) as error:
            if self._error != str(error):
                log.warning("new items cannot be read", extra={"error": str(error)})
            self._error = str(error)
        if self.found is before:
            return frozenset()
        ids = before.items.keys() | self.found.items.keys()
        return frozenset(item for item in ids if _fields(before, item) != _fields(self.found, item))


def _fields(items: NewItems, item_id: str) -> object:
    found = items.items.get(item_id)
    return None if found is None else found.fields


@dataclass
class Revisit:
    """Users of one generation who are still to be looked at.

    Attributes:
        items: items whose events count; None: all that the build does not know.
        users: raw ids.
    """

    items: frozenset[str] | None
    users: deque[str]

    def joined(self, left: "Revisit | None") -> "Revisit":
        """This one, for the items of an unfinished one as well."""
        if left is None or not left.users:
            return self
        if self.items is None or left.items is None:
            return Revisit(None, self.users)
        return Revisit(self.items | left.items, self.users)

    def next(self, many: int) -> list[str]:
        """The next users, at most `many`; they stay in the list until they are `done`."""
        return [self.users[place] for place in range(min(many, len(self.users)))]

    def done(self, users: Sequence[str], again: Sequence[str]) -> None:
        """Remove the next users; those in `again` come last."""
        for _ in users:
            self.users.popleft()
        self.users.extend(again)

    def affected(self, client: Any, target: Target, users: Sequence[str]) -> list[str]:
        """Users whose record may change.

        Args:
            client: the cache, redis-py's. Its errors are not translated.
            target: the generation.
            users: at most some hundreds.
        """
        with client.pipeline(transaction=False) as pipeline:
            for user in users:
                pipeline.hgetall(log_key(user))
            logs = pipeline.execute()
        items = [_items(fields) for fields in logs]
        return [
            user for user, theirs in zip(users, items, strict=True) if self._has(target, theirs)
        ]

    def _has(self, target: Target, items: Sequence[str]) -> bool:
        if self.items is not None:
            return not self.items.isdisjoint(items)
        return bool((target.item_rows(items) == UNKNOWN).any())


def unknown_items(target: Target, items: Iterable[str]) -> frozenset[str]:
    """Those of some items that a generation's build does not know."""
    ids = sorted(items)
    rows = target.item_rows(ids).tolist()
    return frozenset(item for item, row in zip(ids, rows, strict=True) if row == UNKNOWN)


def _items(fields: Any) -> list[str]:
    """Items of a log; none of one that cannot be read, which no fold can read either."""
    try:
        return [event.item_id for event in read_log(fields).events]
    except AbsorbError:
        return []
