"""Removes entries of a stream so that none of their bytes stay.

XDEL only marks an entry: its bytes stay in the node that it shares with up to a hundred others, in memory, in DUMP and
in the files of the server, until all of them are gone. So the stream is copied without the marked entries, under their
ids, and the copy takes its place in one step. Readers with a position go on; a consumer group reads its pending entries
again, which changes nothing where entries may come twice.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from models.live.tombstones import Commands

MAX_AT_ONCE = 20_000
"""Longest stream with a consumer group that is copied: its entries are copied in one script, which takes some 20 ms."""
BATCH = 1000
LOCK_KEY = "absorb:{events}:copying"
LOCK_MS = 60_000
"""Time limit for one stream. A copy that takes longer does not take the place of the stream."""
LOOK_EVERY_S = 0.05

# KEYS: stream, copy. ARGV: id after which to copy ('-' for all), most entries, milliseconds for which an abandoned copy
# stays. Returns the id of the last copied one.
COPY = """#!lua flags=allow-oom
local from = ARGV[1] == '-' and '-' or '(' .. ARGV[1]
local last = ARGV[1]
for _, entry in ipairs(redis.call('xrange', KEYS[1], from, '+', 'count', ARGV[2])) do
  redis.call('xadd', KEYS[2], entry[1], unpack(entry[2]))
  last = entry[1]
end
redis.call('pexpire', KEYS[2], ARGV[3])
return last
"""
# As COPY with what is left, then the copy takes the place of the stream, with its ids, counts and groups. A group goes
# on before its oldest pending entry. KEYS[3], ARGV[2]: the lock and its value.
SWAP = """#!lua flags=allow-oom
local function facts(list)
  local named = {}
  for i = 1, #list, 2 do named[list[i]] = list[i + 1] end
  return named
end
local function before(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if seq ~= '0' then return ms .. '-' .. string.format('%.0f', seq - 1) end
  return string.format('%.0f', ms - 1) .. '-18446744073709551615'
end
if redis.call('get', KEYS[3]) ~= ARGV[2] then return 0 end
if redis.call('exists', KEYS[1]) == 0 then return 1 end
local from = ARGV[1] == '-' and '-' or '(' .. ARGV[1]
for _, entry in ipairs(redis.call('xrange', KEYS[1], from, '+')) do
  redis.call('xadd', KEYS[2], entry[1], unpack(entry[2]))
end
local old = facts(redis.call('xinfo', 'stream', KEYS[1]))
redis.call('xgroup', 'create', KEYS[2], 'copying', '0', 'mkstream')
redis.call('xgroup', 'destroy', KEYS[2], 'copying')
redis.call('xsetid', KEYS[2], old['last-generated-id'], 'entriesadded', old['entries-added'],
  'maxdeletedid', old['max-deleted-entry-id'])
for _, list in ipairs(redis.call('xinfo', 'groups', KEYS[1])) do
  local group = facts(list)
  local pending, start = redis.call('xpending', KEYS[1], group['name']), group['last-delivered-id']
  if pending[1] > 0 then start = before(pending[2]) end
  redis.call('xgroup', 'create', KEYS[2], group['name'], start)
end
redis.call('persist', KEYS[2])
redis.call('rename', KEYS[2], KEYS[1])
return 1
"""

UNLOCK = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"

Fields = Mapping[bytes, bytes]


def remove_entries(
    client: Commands, key: str, is_meant: Callable[[Fields], bool], group: str | None = None
) -> tuple[int, bool]:
    """Remove the entries of a stream that `is_meant` accepts, and every byte of them.

    Args:
        client: the cache.
        key: the stream; one that does not exist has no entries.
        is_meant: called with the fields of each entry.
        group: consumer group of the stream, in which removed entries are acknowledged; None: it has none.

    Returns:
        Number of removed entries, and whether no byte of them is left: False for a stream with a group and more than
        `MAX_AT_ONCE` entries, whose marked bytes leave as its entries are consumed, and after the time limit.
    """
    with _lock(client) as token:
        meant = [entry for entry, fields in entries_of(client, key) if is_meant(fields)]
        for start in range(0, len(meant), BATCH):
            part = meant[start : start + BATCH]
            if group is not None:
                client.execute_command("XACK", key, group, *part)
            client.execute_command("XDEL", key, *part)
        return len(meant), _copy_without_marked(client, key, group is not None, token)


@contextmanager
def _lock(client: Commands) -> Iterator[str]:
    """Let one process at a time copy streams: two copies would bring back what the other one removed."""
    token = secrets.token_hex(8)
    while not client.execute_command("SET", LOCK_KEY, token, "NX", "PX", LOCK_MS):
        time.sleep(LOOK_EVERY_S)
    try:
        yield token
    finally:
        client.execute_command("EVAL", UNLOCK, 1, LOCK_KEY, token)


def entries_of(client: Commands, key: str) -> Iterator[tuple[bytes, Fields]]:
    """Id and fields of each entry, oldest first."""
    start: Any = "-"
    while True:
        part = client.execute_command("XRANGE", key, start, "+", "COUNT", BATCH)
        yield from part
        if len(part) < BATCH:
            return
        start = b"(" + part[-1][0]


def _copy_without_marked(client: Commands, key: str, has_group: bool, token: str) -> bool:
    length = int(client.execute_command("XLEN", key))
    if has_group and length > MAX_AT_ONCE:
        return False
    copy, last = f"{key}:copy:{secrets.token_hex(4)}", "-"
    try:
        # Entries of a stream with a group may be consumed between two steps, and must not come back in the copy.
        while not has_group and length > BATCH:
            arguments = (key, copy, last, BATCH, LOCK_MS)
            last = _text(client.execute_command("EVAL", COPY, 2, *arguments))
            length -= BATCH
        return bool(client.execute_command("EVAL", SWAP, 3, key, copy, LOCK_KEY, last, token))
    finally:
        client.execute_command("UNLINK", copy)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
