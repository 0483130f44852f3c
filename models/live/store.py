"""Compare-and-set of records: a record is written only over the one that it was made from.

A worker reads a record, its base history and the user's log, in this order, and makes a new record of them. Another
worker may write meanwhile, or a publish may overwrite both in place: a publish writes the history before the record, so
whoever read a record that is still there has read the history that belongs to it, or a newer one. The script compares
the stored record with the one that was read by header, mark and checksum, and writes nothing if they differ; the worker
then reads again.
"""

from typing import Any

from models.contract.record import CHECKSUM, HEADER, MARK
from models.live.log import Commands

HEAD, TAIL = HEADER.size, MARK.size + CHECKSUM.size
# KEYS: the record. ARGV: token of the record that was read, the new record.
WRITE = f"""
local head = redis.call('getrange', KEYS[1], 0, {HEAD - 1})
if head .. redis.call('getrange', KEYS[1], -{TAIL}, -1) ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[2])
return 1
"""
# As WRITE, but removes the record.
REMOVE = WRITE.replace("redis.call('set', KEYS[1], ARGV[2])", "redis.call('del', KEYS[1])")


def token(raw: bytes | None) -> bytes:
    """What tells a stored record from others; empty for none."""
    return b"" if raw is None else raw[:HEAD] + raw[-TAIL:]


def compare_and_set(client: Commands, key: str, read: bytes | None, new: bytes) -> Any:
    """Write a record over the one that was read.

    Args:
        client: the cache, or a pipeline.
        key: key of the record.
        read: the record that was read; None: there was none.
        new: the record to write.

    Returns:
        1 if it was written, 0 if the key holds another record by now; or what a pipeline returns.
    """
    return client.execute_command("EVAL", WRITE, 1, key, token(read), new)


def compare_and_remove(client: Commands, key: str, read: bytes) -> Any:
    """Remove a record if it is still the one that was read or written; 1 if it was removed."""
    return client.execute_command("EVAL", REMOVE, 1, key, token(read))
