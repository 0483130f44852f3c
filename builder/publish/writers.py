"""Who writes the batches of a publish: this process, or several that each check, pack and send their own.

The process that publishes reads the records, holds the lock and counts. A writer gets a batch through its pipe and
answers when the servers have all of it; it holds at most `AHEAD` batches. When the publishing process dies, its writers
end after the batch that they are sending: the pipe is closed, and `os.getppid` names another.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from builder.errors import PublishError
from builder.publish.checked import Checker, Entry
from builder.publish.straight import (
    Command,
    FullError,
    Straight,
    UnreachableError,
    UnwantedError,
)
from builder.publish.wire import Servers, packed, packed_set
from models.contract.generation import Generation
from models.contract.state_spec import StateSpec
from models.live.keys import history_key

AHEAD = 2
"""Batches that a writer holds: one that it sends, and one that waits in its pipe."""
MOST_WRITERS = 4
"""One writer fills about a core, and a server needs one, too."""
USERS_PER_WRITER = 100_000
"""About 2 s of CPU time. A process takes a third of a second to start: fewer users are written sooner without it."""


@dataclass(frozen=True)
class Job:
    """What a writer knows.

    Attributes:
        servers: of the cache.
        generation: that the records are of.
        spec: state spec of their artifact.
    """

    servers: Servers
    generation: Generation
    spec: StateSpec


class Sender:
    """Checks batches and sends them."""

    def __init__(self, job: Job, is_wanted: Callable[[], bool]) -> None:
        self._generation = job.generation
        self._checker = Checker(job.spec, job.generation.artifact_id)
        self._straight = Straight(job.servers, is_wanted)

    def send(self, batch: Sequence[Entry]) -> None:
        """Check and write a batch.

        Raises:
            PublishError: a value is not a record or a base history.
            FullError: the cache is full.
            UnreachableError: the cache does not answer, or refuses.
            UnwantedError: `is_wanted` returned False.
        """
        self._checker.check(batch)
        # Before the records: whoever reads a record and then the history never gets an older history.
        self._straight.run(list(self._histories(batch)))
        keys = [(self._generation.key(user_id).encode(), raw) for user_id, raw, _ in batch]
        self._straight.run([Command(key, packed_set(key, raw)) for key, raw in keys])

    def _histories(self, batch: Sequence[Entry]) -> Iterator[Command]:
        for user_id, _, history in batch:
            if history is None and not self._generation.slot:
                continue
            key = history_key(self._generation, user_id).encode()
            # In place: an overwritten generation may have followed events, where this one does not.
            command = packed(b"UNLINK", key) if history is None else packed_set(key, history)
            yield Command(key, command)

    def close(self) -> None:
        """Close all connections."""
        self._straight.close()


def num_writers(users: int) -> int:
    """Processes that write as many users; 0: this one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    number = min(MOST_WRITERS, cores or 1, users // USERS_PER_WRITER)
    return number if number > 1 else 0


def written(
    job: Job, batches: Iterable[list[Entry]], writers: int, is_wanted: Callable[[], bool]
) -> Iterator[list[Entry]]:
    """Write batches; gives each when the servers have it, in any order.

    Args:
        job: what to write where.
        batches: taken when a writer is free.
        writers: number of processes; 0: this one writes.
        is_wanted: asked while a server does not answer; False gives up.

    Raises:
        PublishError: a value is not a record or a base history, or a writer died.
        FullError: the cache is full.
        UnreachableError: the cache does not answer, or refuses.
        UnwantedError: `is_wanted` returned False.
    """
    if writers:
        with _running(job, writers) as pipes:
            yield from _Pool(pipes).written(batches)
        return
    sender = Sender(job, is_wanted)
    try:
        for batch in batches:
            sender.send(batch)
            yield batch
    finally:
        sender.close()


class _Pool:
    """Hands batches to writers, each to one with fewer than `AHEAD`."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._held: dict[Connection, list[list[Entry]]] = {pipe: [] for pipe in pipes}

    def written(self, batches: Iterable[list[Entry]]) -> Iterator[list[Entry]]:
        for batch in batches:
            while all(len(held) >= AHEAD for held in self._held.values()):
                yield from self._answered()
            pipe = min(self._held, key=lambda one: len(self._held[one]))
            try:
                pipe.send(batch)
            except OSError as error:
                raise _died(error) from error
            self._held[pipe].append(batch)
        while any(self._held.values()):
            yield from self._answered()

    def _answered(self) -> Iterator[list[Entry]]:
        busy = [pipe for pipe, held in self._held.items() if held]
        for pipe in wait(busy):
            assert isinstance(pipe, Connection)  # noqa: S101  wait() is typed for other objects, too
            try:
                problem = pipe.recv()
            except (EOFError, OSError) as error:
                raise _died(error) from error
            if problem is not None:
                raise problem
            yield self._held[pipe].pop(0)


def _died(error: BaseException) -> PublishError:
    return PublishError(
        f"a process that writes records died (too little memory?): {type(error).__name__}"
    )


@contextmanager
def _running(job: Job, number: int) -> Iterator[list[Connection]]:
    """Writers, which have ended when the block has: nothing is written afterwards."""
    processes: list[subprocess.Popen[bytes]] = []
    pipes: list[Connection] = []
    try:
        for _ in range(number):
            ours, theirs = multiprocessing.Pipe()
            pipes.append(ours)
            end = theirs.fileno()
            # Not a fork, which torch's threads would not survive, nor `multiprocessing`'s spawn, which would import all
            # that the command line imports.
            command = [sys.executable, "-m", __name__, str(end)]
            processes.append(subprocess.Popen(command, pass_fds=[end]))
            theirs.close()  # else the pipe does not end when the process does
            ours.send(job)
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.kill()
            process.wait()


def work(pipe: Connection) -> None:
    """One writer: until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the publishing process decides
    parent = os.getppid()
    try:
        sender = Sender(pipe.recv(), lambda: os.getppid() == parent)
    except EOFError:
        return
    while True:
        try:
            batch = pipe.recv()
        except EOFError:
            return
        problem: Exception | None = None
        try:
            sender.send(batch)
        except UnwantedError:
            return
        except (PublishError, FullError, UnreachableError) as error:
            problem = error
        try:
            pipe.send(problem)
        except OSError:
            return


if __name__ == "__main__":
    work(Connection(int(sys.argv[1])))
