"""Users who were forgotten, known by a hash: found among the users that the tiers of this process hold.

Hashing 100,000 user ids takes some 70 ms, for which no request may wait. So the tiers are searched a few ids at a time,
and until the search has ended, a lookup first asks whether its own user is meant.
"""

import asyncio
from collections.abc import Callable, Sequence

from models.live.keys import tombstone

SEARCHED_AT_ONCE = 500
"""User ids that are hashed in one turn of the event loop: some 0.4 ms."""


class ForgottenUsers:
    """Drops users by their hashes. Used on the event loop only.

    Attributes:
        sought: `tombstone` of each user of whom the tiers may hold something; a lookup drops such a user itself.
    """

    def __init__(self, held: Callable[[], Sequence[str]], drop: Callable[[str], None]) -> None:
        """Seek nobody.

        Args:
            held: ids of all users in the tiers; a user may be named more than once.
            drop: drops a user from every tier and generation.
        """
        self._held, self._drop = held, drop
        self.sought: set[str] = set()
        self._searching: asyncio.Task[None] | None = None

    def seek(self, user: str) -> None:
        """Find a user, and drop what the tiers hold.

        Args:
            user: `tombstone` of the user.
        """
        self.sought.add(user)
        if self._searching is None or self._searching.done():
            self._searching = asyncio.get_running_loop().create_task(self._search())

    def is_sought(self, user_id: str) -> bool:
        """Whether a user was forgotten, and the search has not ended."""
        return bool(self.sought) and tombstone(user_id) in self.sought

    def close(self) -> None:
        """Stop the search."""
        if self._searching is not None:
            self._searching.cancel()

    async def _search(self) -> None:
        while meant := frozenset(self.sought):
            held = self._held()
            for start in range(0, len(held), SEARCHED_AT_ONCE):
                for user_id in held[start : start + SEARCHED_AT_ONCE]:
                    if tombstone(user_id) in meant:
                        self._drop(user_id)
                await asyncio.sleep(0)
            self.sought -= meant
