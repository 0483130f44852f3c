"""Writes keys straight to the servers that hold them, and sends again what a server could not take.

In a cluster, a slot may move while a publish writes, and a server may fail and be replaced by its replica: answers of
MOVED and ASK name another server; a broken connection, CLUSTERDOWN and the like mean to wait, to ask for the slot map
again, and to repeat. Every command here may be repeated.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.crc import key_slot
from redis.exceptions import RedisError

from builder.publish.wire import Address, Link, Servers, packed

logger = logging.getLogger(__name__)

NUM_SLOTS = 16384
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 1.6
CLUSTER_PATIENCE = 5
"""Times as many retries in a cluster, about 40 s: a replica takes over 15 to 20 s after its primary failed."""
MAX_REDIRECTS = 64
"""Redirects in a row, without a command done: more than slots that move at once can cause."""
BUSY = (b"-TRYAGAIN", b"-CLUSTERDOWN", b"-LOADING", b"-MASTERDOWN", b"-READONLY")
"""Answers of a server that will take the command later, or whose successor will."""
ASKING = packed(b"ASKING")


class FullError(Exception):
    """A server has no memory left."""


class UnreachableError(Exception):
    """A server does not answer, or refuses a command."""


class UnwantedError(Exception):
    """Who wanted the keys written has ended."""


@dataclass(frozen=True)
class Command:
    """A command on one key that is answered by a status or a number, and may be repeated.

    Attributes:
        key: the key.
        packed: the command's bytes.
    """

    key: bytes
    packed: bytes


@dataclass(frozen=True)
class _Sent:
    """A command, and where it goes.

    Attributes:
        address: of the server.
        packed: bytes.
        slot: of the key; 0 outside a cluster.
        is_asking: the server is about to get the slot.
    """

    address: Address
    packed: bytes
    slot: int
    is_asking: bool = False


class Straight:
    """Connections to all servers of a cache that keys are written to."""

    def __init__(self, servers: Servers, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Connects when something is written.

        Args:
            servers: how to reach them.
            is_wanted: asked before anything is sent again; False gives it up.
        """
        self._servers, self._is_wanted = servers, is_wanted
        self._links: dict[Address, Link] = {}
        self._owners: list[Address] = []
        self._num_retries = servers.num_retries * (CLUSTER_PATIENCE if servers.is_cluster else 1)

    def run(self, commands: Sequence[Command]) -> None:
        """Run commands on all servers at once; those of one server in their order, unless some are sent again.

        Raises:
            FullError: a server has no memory left.
            UnreachableError: a server does not answer, also after all retries, or refuses a command.
            UnwantedError: `is_wanted` returned False.
        """
        try:
            self._run(commands)
        except (FullError, UnreachableError, UnwantedError):
            self.close()  # answers may be on their way
            raise

    def _run(self, commands: Sequence[Command]) -> None:
        retries = redirects = 0
        due = self._routed(commands)
        while due:
            before = len(due)
            due, problem = self._round(due)
            if not due:
                return
            if not self._is_wanted():
                raise UnwantedError
            redirects = 0 if len(due) < before else redirects + 1
            if problem is None and redirects <= MAX_REDIRECTS:
                continue
            if problem is None or retries >= self._num_retries:
                raise UnreachableError(problem or f"redirected {redirects} times")
            time.sleep(min(FIRST_WAIT_S * 2**retries, LONGEST_WAIT_S))
            retries += 1
            due = self._rerouted(due)

    def close(self) -> None:
        """Close all connections."""
        for address in list(self._links):
            self._drop(address)

    def _routed(self, commands: Sequence[Command]) -> list[_Sent]:
        if not self._servers.is_cluster:
            return [_Sent(self._servers.seeds[0], one.packed, 0) for one in commands]
        slots = [key_slot(one.key) for one in commands]
        owners = self._owners or self._learn()
        return [
            _Sent(owners[slot], one.packed, slot) for one, slot in zip(commands, slots, strict=True)
        ]

    def _rerouted(self, due: Sequence[_Sent]) -> list[_Sent]:
        """The same after the slot map was loaded again; a map that cannot be loaded stays."""
        if not self._servers.is_cluster:
            return list(due)
        try:
            owners = self._learn()
        except UnreachableError as error:
            logger.warning("%s", error)
            owners = self._owners
        return [_Sent(owners[one.slot], one.packed, one.slot) for one in due]

    def _round(self, due: Sequence[_Sent]) -> tuple[list[_Sent], str | None]:
        """Send all, then read all answers. Returns what has to be sent again, and what went wrong, if anything did."""
        groups: dict[Address, list[_Sent]] = {}
        for one in due:
            groups.setdefault(one.address, []).append(one)
        again: list[_Sent] = []
        problems: list[str] = []
        asked = []
        for address, group in groups.items():
            try:
                self._link(address).send(b"".join(_bytes(one) for one in group))
                asked.append((address, group))
            except (RedisError, OSError) as error:
                problems.append(self._failed(address, group, again, error))
        for address, group in asked:
            try:
                self._settle(address, group, again, problems)
            except (RedisError, OSError) as error:
                problems.append(self._failed(address, group, again, error))
        return again, (problems[0] if problems else None)

    def _failed(
        self, address: Address, group: list[_Sent], again: list[_Sent], error: Exception
    ) -> str:
        self._drop(address)
        again.extend(group)
        host, port = address
        return f"{host}:{port}: {error}" if self._servers.is_cluster else str(error)

    def _settle(
        self, address: Address, group: list[_Sent], again: list[_Sent], problems: list[str]
    ) -> None:
        """Read the answers of one server."""
        number = len(group) + sum(one.is_asking for one in group)
        answers = iter(self._links[address].lines(number))
        for one in group:
            if one.is_asking:
                next(answers)
            line = next(answers)
            if line[:1] in b"+:":
                continue
            other = _redirected(one, line, address)
            if other is not None:
                if not other.is_asking:
                    self._owners[one.slot] = other.address
                again.append(other)
            elif line.startswith(BUSY):
                problems.append(line[1:].decode(errors="replace"))
                again.append(one)
            elif line.startswith(b"-OOM"):
                raise FullError(line[1:].decode(errors="replace"))
            else:
                raise UnreachableError(line[1:].decode(errors="replace"))

    def _link(self, address: Address) -> Link:
        if address not in self._links:
            self._links[address] = self._servers.connect(address)
        return self._links[address]

    def _drop(self, address: Address) -> None:
        if link := self._links.pop(address, None):
            link.close()

    def _learn(self) -> list[Address]:
        """Ask one server after another until one returns the slot map.

        Raises:
            UnreachableError: none does.
        """
        problem = ""
        for address in dict.fromkeys([*self._links, *self._owners, *self._servers.seeds]):
            try:
                entries = self._link(address).ask("CLUSTER", "SLOTS")
            except (RedisError, OSError) as error:
                self._drop(address)
                problem = f"{address[0]}:{address[1]}: {error}"
                continue
            owners = self._owners or [address] * NUM_SLOTS
            for first, last, (host, port, *_), *_ in entries:
                name = host.decode() if host else address[0]
                owners[first : last + 1] = [(name, port)] * (last + 1 - first)
            self._owners = owners
            return owners
        raise UnreachableError(f"the cluster's slots are unknown: {problem}")


def _bytes(one: _Sent) -> bytes:
    return ASKING + one.packed if one.is_asking else one.packed


def _redirected(one: _Sent, line: bytes, source: Address) -> _Sent | None:
    """The command for the server that an answer of MOVED or ASK names; None for another answer."""
    kind, *rest = line.split(b" ")
    if kind not in (b"-MOVED", b"-ASK") or len(rest) != 2:
        return None
    host, _, port = rest[1].decode().rpartition(":")
    address = host or source[0], int(port)
    return _Sent(address, one.packed, one.slot, is_asking=kind == b"-ASK")
