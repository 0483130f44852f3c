"""Files of captured requests (`ABSORB_SLOW_DIR`): lines of forgotten users are taken out. Standard library only.

A line says whose request it is by hashes (`users`, a list of `tombstone`). A line without them, of an older version or
of a request that was refused before its user was known, is taken out as well: nobody can tell whose it is.
"""

import fcntl
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.live.keys import tombstone

FILE, BEFORE = "slow.jsonl", "slow.1.jsonl"
USERS = "users"
"""Key of a line: `tombstone` of each user that the request names."""


def concerns(line: bytes, hashes: Collection[str]) -> bool:
    """Whether a line is of one of the users with these hashes, or may be."""
    users = _users(line)
    return users is None or any(user in hashes for user in users)


def _users(line: bytes) -> list[str] | None:
    """Hashes of the users of a line; None: unknown."""
    try:
        record = json.loads(line)
        if isinstance(record.get(USERS), list):
            return [str(user) for user in record[USERS]]
        user_id = json.loads(record["body"])["user_id"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return [tombstone(str(user_id))] if type(user_id) in (str, int) else None


def users_of_file(path: Path) -> set[str]:
    """Hashes of the users that the lines of a file name; none if it does not exist.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as lines:
            return {user for line in lines for user in _users(line) or ()}
    except FileNotFoundError:
        return set()


def clean_file(path: Path, hashes: Collection[str]) -> int:
    """Replace a file by one without the lines that concern these users; return how many were taken out.

    Raises:
        OSError: the file cannot be read or replaced. One that does not exist has no lines.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    kept = [line for line in lines if not concerns(line, hashes)]
    if len(kept) == len(lines):
        return 0
    staged = path.with_name(f"{path.name}.{os.getpid()}.new")
    file = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, path.stat().st_mode & 0o777)
    with os.fdopen(file, "wb") as output:
        output.writelines(kept)
    staged.replace(path)
    return len(lines) - len(kept)


def clean_folder(folder: Path, hashes: Collection[str]) -> int:
    """As `clean_file`, for both files of a folder, while no service appends to them.

    Raises:
        OSError: a file cannot be read or replaced.
    """
    if not folder.is_dir():
        return 0
    with locked(folder):
        return sum(clean_file(folder / name, hashes) for name in (FILE, BEFORE))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from appending to, rotating and replacing the folder's files.

    Raises:
        OSError: the folder cannot be opened.
    """
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
