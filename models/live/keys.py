"""Keys of the cache that hold live events. Standard library only.

    absorb:{events}:in                              stream: every accepted event, until it is folded
    absorb:{events}:done                            number: entries of the stream that workers have removed
    absorb:{events}:dead                            stream: events that cannot be folded, and why
    absorb:{events}:changed                         stream: whose records were overwritten; services read it
    absorb:{events}:touched                         sorted set: user id -> epoch ms when the newest event arrived
    absorb.log:<user id>                            hash: a user's live events (`log.py`)
    absorb.history:<model>:<generation>:<user id>   what a build knew of a user (`history.py`)
    absorb:{control}:forgotten                      hash: SHA-256 of a forgotten user's id -> epoch second
    absorb:{control}:followers                      set: names of the workers that fold events
    absorb:{control}:follower:<name>                JSON: how far a worker is (`follow_status.py`)
    absorb:{control}:coming:<model>                 JSON: the generation that is being published

The braces put the keys of one group into one slot of a Redis Cluster. Logs and histories are spread over all slots.
"""

import hashlib

from models.contract.generation import Generation

IN_KEY = "absorb:{events}:in"
DONE_KEY = "absorb:{events}:done"
DEAD_KEY = "absorb:{events}:dead"
CHANGED_KEY = "absorb:{events}:changed"
TOUCHED_KEY = "absorb:{events}:touched"
FORGOTTEN_KEY = "absorb:{control}:forgotten"
FOLLOWERS_KEY = "absorb:{control}:followers"
GROUP = "follow"
"""Consumer group of the workers."""
EVENT_FIELD = "e"
"""Field of a stream entry that holds the event as JSON (`Event.to_bytes`)."""
REASON_FIELD = "reason"
"""Field of a dead letter that says why the event cannot be folded."""
MODEL_FIELD, PLACE_FIELD, USER_FIELD = "m", "p", "u"
"""Fields of an entry of `CHANGED_KEY`: model, `Generation.place`, user id."""
FORGOTTEN_FIELD = "f"
"""Only field of an entry of `CHANGED_KEY` that says that a user was forgotten: the user's `tombstone`."""
MAX_DEAD = 10_000
"""Dead letters that are kept, about."""
MAX_CHANGED = 100_000
"""Entries of `CHANGED_KEY` that are kept, about. A service that missed some drops all that it holds."""


def log_key(user_id: str) -> str:
    """Key of a user's live events."""
    return f"absorb.log:{user_id}"


def history_key(generation: Generation, user_id: str) -> str:
    """Key of what the build of a generation knew of a user."""
    return f"absorb.history:{generation.model}:{generation.place}:{user_id}"


def history_pattern(model: str, place: str = "*") -> str:
    """Glob that matches the histories of a model, of one generation or of all. Neither has glob characters."""
    return f"absorb.history:{model}:{place}:*"


def follower_key(worker: str) -> str:
    """Key of the status of a worker."""
    return f"absorb:{{control}}:follower:{worker}"


def coming_key(model: str) -> str:
    """Key of the generation of a model that is being published."""
    return f"absorb:{{control}}:coming:{model}"


def tombstone(user_id: str) -> str:
    """Field of `FORGOTTEN_KEY` that stands for a user: the id itself must not stay in the cache."""
    return hashlib.sha256(user_id.encode()).hexdigest()


def shown_user(user_id: str) -> str:
    """What reports name a user by, so that they can be kept: the first 12 digits of `tombstone`."""
    return tombstone(user_id)[:12]
