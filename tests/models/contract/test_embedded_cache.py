"""The embedded cache: one server per folder, that outlives its starter and keeps its content."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest
from redis import Redis

from models.contract import embedded_cache
from models.contract.embedded_cache import (
    SOCKET_PATH_LIMIT,
    resolve_cache_url,
    start_server,
    stop_server,
)
from models.contract.errors import CacheUnavailableError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    yield path
    stop_server(path)
    shutil.rmtree(path)


def connect(folder: Path) -> Redis:
    return Redis.from_url(f"unix://{start_server(folder)}")


def server_pid(folder: Path) -> int:
    with connect(folder) as client:
        return int(client.info("server")["process_id"])


def processes_over(folder: Path) -> list[int]:
    """Valkey processes that were started with this folder."""
    pids = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_valkey = "valkey" in (path / "comm").read_text()
            matches = is_valkey and (path / "cwd").resolve() == folder
        except OSError:
            continue
        if matches:
            pids.append(int(path.name))
    return pids


def test_a_second_start_finds_the_same_server(folder):
    assert server_pid(folder) == server_pid(folder)


def test_concurrent_starts_make_one_server(folder):
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: start_server(folder), range(8)))

    assert len(paths) == 1
    assert processes_over(folder) == [server_pid(folder)]


def test_a_start_waits_for_a_stalled_server_and_makes_no_second_one(folder, monkeypatch):
    pid = server_pid(folder)
    locks: list[object] = []
    has_tried_twice = threading.Event()
    take_lock = embedded_cache._take_lock

    def watched(folder: Path) -> IO[str] | None:
        locks.append(lock := take_lock(folder))
        if len(locks) == 2:
            has_tried_twice.set()
        return lock

    monkeypatch.setattr(embedded_cache, "REPLY_LIMIT_S", 0.05)
    monkeypatch.setattr(embedded_cache, "_take_lock", watched)
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(start_server, folder)
        has_tried_twice.wait()
        os.kill(pid, signal.SIGCONT)
        second.result()

    assert locks
    assert not any(locks)
    assert server_pid(folder) == pid


def test_concurrent_starts_over_much_content_make_one_server_that_has_loaded_it(folder):
    with connect(folder) as client:
        client.eval("for i = 1, 200000 do redis.call('set', i, i) end", 0)
        pid = int(client.info("server")["process_id"])
    stop_server(folder)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: start_server(folder), range(4)))

    assert processes_over(folder) == [server_pid(folder)]
    assert server_pid(folder) != pid
    with connect(folder) as client:
        assert client.dbsize() == 200_000


def test_the_server_outlives_its_starter(folder):
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, sys, time\n"
            "from models.contract.embedded_cache import start_server\n"
            "print(start_server(pathlib.Path(sys.argv[1])), flush=True)\n"
            "time.sleep(600)",
            str(folder),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with starter:
        assert starter.stdout is not None
        socket_path = Path(starter.stdout.readline().strip())
        with Redis.from_url(f"unix://{socket_path}") as client:
            pid = int(client.info("server")["process_id"])
        starter.kill()

    assert server_pid(folder) == pid


def test_content_survives_a_stop_and_a_start(folder):
    with connect(folder) as client:
        client.set("key", b"\x00value")
    assert stop_server(folder)
    assert not processes_over(folder)

    with connect(folder) as client:
        assert client.get("key") == b"\x00value"


def test_content_survives_a_killed_server(folder):
    with connect(folder) as client:
        client.set("key", b"value")
        client.waitaof(1, 0, 5000)  # synced to disk
        os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)

    with connect(folder) as client:
        assert client.get("key") == b"value"


def test_a_stop_returns_whether_a_server_ran(folder):
    assert not stop_server(folder)
    start_server(folder)
    assert stop_server(folder)
    assert not stop_server(folder)


def test_the_server_has_no_tcp_port_and_only_its_owner_may_connect(folder):
    path = start_server(folder)

    with connect(folder) as client:
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_folder_with_a_space_and_an_umlaut_works(folder):
    odd = folder / "my cäche"
    with connect(odd) as client:
        client.set("key", b"value")
    assert (odd / "valkey.log").exists()
    assert stop_server(odd)


def test_a_path_that_is_too_long_is_refused(tmp_path):
    long = tmp_path / ("x" * SOCKET_PATH_LIMIT)
    with pytest.raises(CacheUnavailableError, match="too long for a unix socket"):
        start_server(long)
    assert not long.exists()


def test_a_folder_that_is_a_file_is_refused(folder):
    (folder / "file").write_text("")
    with pytest.raises(CacheUnavailableError, match="file"):
        start_server(folder / "file")


def test_a_broken_append_only_file_is_an_error_and_not_retried(folder):
    with connect(folder) as client:
        client.set("key", b"value")
    stop_server(folder)
    [written] = (folder / "appendonlydir").glob("*.incr.aof")
    written.write_bytes(b"no command" + written.read_bytes())

    with pytest.raises(CacheUnavailableError, match=r"does not answer; see .*valkey\.log"):
        start_server(folder)


def test_a_stale_socket_file_is_not_taken_for_a_server(folder):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "valkey.sock"))

    assert server_pid(folder)


@pytest.mark.parametrize("url", ["redis://host:1/2", "rediss://:secret@host", "unix:///path"])
def test_urls_of_other_servers_are_returned_unchanged(url):
    assert resolve_cache_url(url) == url


def test_an_embedded_url_starts_the_server_in_its_folder(folder):
    url = resolve_cache_url(f"embedded:{folder}")

    assert url == f"unix://{folder}/valkey.sock"
    with Redis.from_url(url) as client:
        assert client.ping()


def test_an_embedded_url_without_a_folder_uses_var_cache(folder, monkeypatch):
    monkeypatch.chdir(folder)

    assert resolve_cache_url("embedded:") == f"unix://{folder}/var/cache/valkey.sock"
    assert stop_server(Path("var/cache"))
