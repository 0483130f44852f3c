"""The worker threads: where they wake."""

import os
import threading

import pytest

from service.runtime.workers import Workers

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="threads cannot be placed here",
)


def test_a_helper_wakes_on_another_cpu_than_its_owner():
    workers = Workers(2)
    seen: list[tuple[int, int]] = []
    owner = threading.Thread(target=_help, args=(workers, seen, 20))
    owner.start()
    owner.join(timeout=60)
    workers.shutdown()
    owners, helpers = zip(*seen, strict=True)
    assert len(seen) == 20
    assert set(owners).isdisjoint(helpers)


def test_a_thread_that_was_kept_off_a_cpu_may_use_all_again():
    workers, allowed, done = Workers(2), [], threading.Event()
    workers.submit(done.wait, 0).result()
    done.clear()

    def work():
        allowed.append(os.sched_getaffinity(threading.get_native_id()))
        done.set()

    workers.help(work, 1)
    assert done.wait(30)
    workers.shutdown()
    assert allowed == [os.sched_getaffinity(0)]


def _help(workers: Workers, seen: list[tuple[int, int]], times: int) -> None:
    """The owner of some slates, who stays on one CPU, waits for a helper and notes both CPUs."""
    own = min(os.sched_getaffinity(os.getpid()))
    os.sched_setaffinity(threading.get_native_id(), {own})
    for _ in range(times):
        done = threading.Event()

        def work(done: threading.Event = done) -> None:
            seen.append((own, _cpu()))
            done.set()

        workers.submit(lambda: None).result()
        workers.help(work, 1)
        assert done.wait(30)


def _cpu() -> int:
    """The CPU that the calling thread last ran on (field 39 of its stat)."""
    with open(f"/proc/self/task/{threading.get_native_id()}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[36])
