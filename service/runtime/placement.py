"""Wakes idle threads on other CPUs than the waking thread's.

In a virtual machine, Linux often wakes a thread on the CPU of the thread that wakes it, although another one is idle,
because an idle CPU may be one that the host has taken away. The woken thread waits until the waker sleeps or the load
is balanced, a millisecond later. The helper of a slate that takes one millisecond then comes when the slate is done.
"""

import ctypes
import os
import threading
from collections.abc import Callable


class Placement:
    """The CPUs that the threads of a pool may wake on."""

    def __init__(self) -> None:
        """Know no thread yet. Where the system cannot place threads, all calls do nothing."""
        self._current_cpu = _sched_getcpu()
        self._threads: set[int] = set()
        self._kept_off: dict[int, int] = {}

    def began(self) -> None:
        """The calling thread of the pool has begun some work: it may run, and wake next time, on any CPU."""
        thread = threading.get_native_id()
        self._threads.add(thread)
        if self._kept_off.pop(thread, None) is not None:
            _set_cpus(thread, os.sched_getaffinity(os.getpid()))

    def keep_off(self) -> None:
        """Keep the other threads off the calling thread's CPU until each begins its next work."""
        if self._current_cpu is None:
            return
        cpu, own = self._current_cpu(), threading.get_native_id()
        known = self._threads.copy()
        threads = {thread for thread in known if self._kept_off.get(thread) != cpu} - {own}
        others = os.sched_getaffinity(os.getpid()) - {cpu} if threads else set()
        if not others:
            return
        for thread in threads:
            self._kept_off[thread] = cpu
            if not _set_cpus(thread, others):
                self._threads.discard(thread)


def _sched_getcpu() -> Callable[[], int] | None:
    """The C library's function, or None where threads cannot be placed."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    # PyDLL keeps the interpreter's lock, which costs more to give away than the call takes.
    return getattr(ctypes.PyDLL(None), "sched_getcpu", None)


def _set_cpus(thread: int, cpus: set[int]) -> bool:
    """Whether it worked: the thread may have ended, or a sandbox forbid it."""
    try:
        os.sched_setaffinity(thread, cpus)
    except OSError:
        return False
    return True
