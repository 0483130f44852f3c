"""Generations in the cache: which exist, which one serves, and the atomic flip of the pointer."""

import re
import secrets
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

from builder.errors import PublishError
from builder.publish.cache import CacheClient, cache_errors, read_control
from builder.publish.forgotten import removed_since
from models.contract.generation import (
    DEFAULT_KEY,
    MODELS_KEY,
    PREFERRED_MODEL,
    Generation,
    Pointer,
    check_generation,
    lock_key,
    pointer_key,
)
from models.contract.state_spec import RecordDtype
from models.live.keys import history_pattern

SCAN_COUNT = 1000
UNLINK_BATCH = 500
GENERATION_KEY = re.compile(rb"absorb:([^:]+):([0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}):")
OWNED_KEY = re.compile(rb"absorb(?:\.history)?:([^:]+):([0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}):")
"""Record or base history of a generation."""

# A script, not WATCH and MULTI: EXEC does not notice that a watched lock has expired, and a client whose connection
# breaks during EXEC cannot know what happened, whereas this script may be sent again. allow-oom: a full cache gets free
# memory only after the flip, when old records are removed.
# The default model is set once, by the first publish. Models that an older builder published come before this one: the
# services had chosen among them. pcall: a key that holds no string is left as it is.
FLIP = """#!lua flags=allow-oom
if ARGV[4] ~= '' and redis.call('get', KEYS[3]) ~= ARGV[4] then return 'lock' end
local now = redis.call('get', KEYS[1]) or ''
local names = redis.call('smembers', KEYS[2])
if now ~= ARGV[2] then
  if now ~= ARGV[1] then return 'changed' end
  redis.call('set', KEYS[1], ARGV[2])
end
if redis.pcall('get', KEYS[4]) == false then
  local first = nil
  for _, name in ipairs(names) do
    if string.match(name, '^[a-z0-9][a-z0-9_.-]*$') and first ~= ARGV[5] then
      if not first or name < first or name == ARGV[5] then first = name end
    end
  end
  redis.call('set', KEYS[4], first or ARGV[3])
end
redis.call('sadd', KEYS[2], ARGV[3])
return 'done'
"""


def new_generation(
    model: str,
    artifact_id: str,
    num_users: int,
    as_of_s: int,
    dtype: RecordDtype,
    now: datetime,
) -> Generation:
    """Name a generation after the time `now`, with a random part that distinguishes generations of the same second.

    Raises:
        PublishError: `model` cannot be part of a key, or services would refuse a pointer with one of the other values.
    """
    name = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    new = Generation(model, name, artifact_id, num_users, as_of_s, int(now.timestamp()), dtype)
    try:
        check_generation(new.to_dict())
    except ValueError as error:
        raise PublishError(f"generation: {error}") from error
    return new


def read_pointer(client: CacheClient, model: str) -> tuple[Pointer | None, bytes]:
    """A model's pointer (None if it was never published), and its bytes, which `flip_pointer` compares.

    Raises:
        GenerationError: the key does not hold a pointer.
    """
    key = pointer_key(model)
    raw = read_control(client, key)
    return (Pointer.from_bytes(raw, key), raw) if raw is not None else (None, b"")


def flip_pointer(client: CacheClient, old: bytes, new: Pointer, token: str = "") -> None:
    """Replace a model's pointer atomically, if it is still `old` and the lock still holds `token`.

    The first flip of a cache also makes its model the default; later ones leave the default as it is.

    Args:
        client: the cache.
        old: bytes that `read_pointer` returned.
        new: the new pointer.
        token: value of the lock; empty: do not check the lock.

    Raises:
        PublishError: the pointer or the lock has changed; nothing is flipped.
    """
    model = new.current.model
    keys = (pointer_key(model), MODELS_KEY, lock_key(model), DEFAULT_KEY)
    arguments = (old, new.to_bytes(), model, token, PREFERRED_MODEL)
    with cache_errors(client):
        answer = client.eval(FLIP, len(keys), *keys, *arguments)
    if answer == b"lock":
        raise PublishError(f"model {model!r}: lost the lock to another builder; nothing is flipped")
    if answer == b"changed":
        raise PublishError(
            f"model {model!r}: the pointer changed since it was read; nothing is flipped"
        )


def rollback(client: CacheClient, model: str) -> Pointer:
    """Make the previous generation serve again; the current one becomes the previous. A second call reverts the first.

    Takes no lock: in an emergency it must not wait for a builder. A builder that is publishing finds the pointer
    changed, and stops.

    Raises:
        PublishError: there is no previous generation, or its records were overwritten in place.
    """
    old, old_bytes = read_pointer(client, model)
    if old is None:
        raise PublishError(f"model {model!r}: got no published generation, expected one")
    if old.previous is None:
        raise PublishError(f"model {model!r}: {old.current.name} has no previous generation")
    if old.previous.place == old.current.place:
        raise PublishError(_why_overwritten(old.current, old.previous))
    num_left = count_records(client, old.previous)
    if num_left < old.previous.num_users - removed_since(client, old.previous.created_s):
        raise PublishError(
            f"model {model!r}: of the {old.previous.num_users} records of {old.previous.name} only {num_left} are left"
        )
    new = Pointer(old.previous, old.current)
    flip_pointer(client, old_bytes, new)
    return new


def _why_overwritten(current: Generation, previous: Generation) -> str:
    state = "is overwriting" if current.over else "has overwritten"
    return (
        f"model {current.model!r}: {current.name} {state} the records of {previous.name} in place: they cannot serve "
        f"again; encode and publish them again: absorb republish RECIPE {previous.artifact_id}"
    )


def count_records(client: CacheClient, generation: Generation) -> int:
    """Number of a generation's records. May count a key twice: SCAN does so while the server's table shrinks."""
    with cache_errors(client):
        return sum(1 for _ in client.scan_iter(generation.key_pattern(), SCAN_COUNT))


def count_all(client: CacheClient) -> dict[str, Counter[str]]:
    """Model -> generation (by `Generation.place`) -> number of records in the cache, of finished generations or not."""
    found: dict[str, Counter[str]] = {}
    with cache_errors(client):
        for key in client.scan_iter("absorb:*", SCAN_COUNT):
            match = GENERATION_KEY.match(key)
            if match:
                model, name = match[1].decode(errors="replace"), match[2].decode()
                found.setdefault(model, Counter())[name] += 1
    return found


def remove_generation(client: CacheClient, model: str, name: str) -> None:
    """Remove a generation's base histories and records."""
    with cache_errors(client):
        _unlink(client, client.scan_iter(history_pattern(model, name), SCAN_COUNT))
        _unlink(client, client.scan_iter(f"absorb:{model}:{name}:*", SCAN_COUNT))


def find_generations(client: CacheClient, model: str) -> set[str]:
    """Names of a model's generations that have records or base histories in the cache, finished or not."""
    found: set[str] = set()
    with cache_errors(client):
        for key in client.scan_iter(f"absorb*:{model}:*", SCAN_COUNT):
            match = OWNED_KEY.match(key)
            if match and match[1] == model.encode():
                found.add(match[2].decode())
    return found


def _unlink(client: CacheClient, keys: Iterator[bytes]) -> None:
    while batch := list(islice(keys, UNLINK_BATCH)):
        with client.pipeline(transaction=False) as pipeline:
            for (
                key
            ) in batch:  # one command per key: in a cluster, the keys of a batch are on many nodes
                pipeline.unlink(key)
            pipeline.execute()
