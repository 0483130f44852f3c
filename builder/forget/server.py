"""What a server keeps beside its keys: the append-only file, snapshots, and the logs of slow commands.

A removed key stays in the append-only file until it is rewritten, and in a snapshot until the next one. The logs of
slow and large commands hold the keys of commands.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from redis import Redis, RedisCluster
from redis.exceptions import RedisError, ResponseError

from builder.forget.report import Line, Report
from builder.publish.cache import CacheClient, cache_address

LOOK_EVERY_S = 0.05
COMMAND_LOGS = (
    ("SLOWLOG GET -1", "SLOWLOG RESET"),
    ("COMMANDLOG GET -1 large-request", "COMMANDLOG RESET large-request"),
    ("COMMANDLOG GET -1 large-reply", "COMMANDLOG RESET large-reply"),
    ("ACL LOG", "ACL LOG RESET"),
)
"""How a log is read, and how it is emptied. `COMMANDLOG` is of Valkey."""
FILES = "append-only file and snapshots: removed keys stay in them until they are written anew"
BUSY = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")
BUSY_LIMIT_S = 60.0


def servers_of(client: CacheClient) -> list[Redis]:
    """A client of each server that holds keys."""
    if not isinstance(client, RedisCluster):
        return [client]
    nodes = client.get_primaries()  # type: ignore[no-untyped-call]
    return [client.get_redis_connection(node) for node in nodes]


def empty_logs(server: Redis, user_id: str, report: Report) -> None:
    """Empty the logs of commands that name the user."""
    name = cache_address(server)
    for read, empty in COMMAND_LOGS:
        try:
            if user_id in _plain(_send(server, read)):
                _send(server, empty)
                report.add(name, f"log of commands that named the user ({empty})", 1)
        except ResponseError:
            continue  # a server without such a log, or a cache user without the right to read it


def rewrite_files(server: Redis, reports: Sequence[Report], limit_s: float) -> None:
    """Have a server write its files anew, without the removed keys.

    Args:
        server: one server.
        reports: get what was done, and what the server refuses.
        limit_s: most seconds to wait for the files; 0: the server is not asked.
    """
    name = cache_address(server)
    if not limit_s:
        what = f"{FILES} (BGREWRITEAOF, BGSAVE)"
        _note([report.left for report in reports], name, what)
        return
    to_do = [report.to_do for report in reports]
    try:
        for what, is_done in _rewritten(server, time.monotonic() + limit_s):
            if is_done:
                _note([report.removed for report in reports], name, f"{what} written anew")
            else:
                _note(to_do, name, f"{what}: is still being written anew")
    except RedisError as error:
        _note(to_do, name, f"{FILES}: {error}")


def _note(lists: Sequence[list[Line]], where: str, what: str) -> None:
    for lines in lists:
        lines.append(Line(where, what))


def _send(server: Redis, command: str) -> Any:
    return server.execute_command(*command.split())  # type: ignore[no-untyped-call]


def _plain(answer: Any) -> str:
    """Everything in an answer as text."""
    if isinstance(answer, bytes):
        return answer.decode(errors="replace")
    if isinstance(answer, dict):
        return "\n".join(_plain(part) for pair in answer.items() for part in pair)
    if isinstance(answer, list | tuple):
        return "\n".join(map(_plain, answer))
    return str(answer)


def _rewritten(server: Redis, deadline_s: float) -> Iterator[tuple[str, bool]]:
    """Write each kind of file that the server keeps; whether it was done before the deadline."""
    facts: Any = server.info("persistence")
    if facts.get("aof_enabled"):
        _start(server, "BGREWRITEAOF")
        yield "append-only file", _wait(server, deadline_s)
    save: Any = server.config_get("save")
    if any(save.values()):
        _start(server, "BGSAVE")
        yield "snapshot", _wait(server, deadline_s)


def _start(server: Redis, command: str) -> None:
    try:
        _send(server, command)
    except RedisError as error:
        if "progress" not in str(error):
            raise
        # The one that runs may have begun before the removal.
        _wait(server, time.monotonic() + BUSY_LIMIT_S)
        _send(server, command)


def _wait(server: Redis, deadline_s: float) -> bool:
    """Wait until the server is done; False if it takes too long."""
    while time.monotonic() < deadline_s:
        facts: Any = server.info("persistence")
        if not any(facts.get(name) for name in BUSY):
            return True
        time.sleep(LOOK_EVERY_S)
    return False
