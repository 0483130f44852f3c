"""What `absorb follow --dead-letters` prints: events that cannot be folded, and why."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError

from models.contract.errors import CacheUnavailableError
from models.live.keys import DEAD_KEY, EVENT_FIELD, REASON_FIELD

SHOWN = 20
LONGEST = 500
"""Characters of an entry that are shown."""


def dead_letter_lines(client: Any, url: str) -> Iterator[str]:
    """The newest dead letters in the cache, oldest first: when it became one, why, and the entry.

    Args:
        client: the cache, redis-py's; answers come as bytes.
        url: its address without a password, for the error.

    Raises:
        CacheUnavailableError: the cache does not answer, or refuses the command.
    """
    try:
        newest, total = client.xrevrange(DEAD_KEY, count=SHOWN), client.xlen(DEAD_KEY)
    except (RedisError, OSError) as error:
        raise CacheUnavailableError(url, str(error)) from error
    for position, fields in reversed(newest):
        at = datetime.fromtimestamp(int(position.split(b"-")[0]) / 1000, UTC)
        reason, raw = (_text(fields, name) for name in (REASON_FIELD, EVENT_FIELD))
        yield f"{at:%Y-%m-%d %H:%M:%S} UTC  {reason}\n    {raw}"
    yield f"{len(newest)} of {total:,} dead letters" if total else "no dead letters"


def _text(fields: dict[bytes, bytes], name: str) -> str:
    """A field as text. Clients send entries, so what a terminal would act on is replaced."""
    text = fields.get(name.encode(), b"").decode(errors="replace")[:LONGEST]
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
