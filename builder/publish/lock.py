"""One builder per model at a time: a lock in the cache. Its holder renews it; a killed holder's lock expires."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from builder.errors import LockHeldError
from builder.publish.cache import CacheClient, cache_errors, read_control
from models.contract.generation import lock_key

logger = logging.getLogger(__name__)
TTL_S = 10.0
RENEW_EVERY_S = 3.0
"""Two renewals may fail before the lock expires."""
POLL_EVERY_S = 0.1


class HeldLock:
    """A lock that this process holds.

    Attributes:
        token: value of the lock's key: host, process, start time and a random part.
    """

    def __init__(self, client: CacheClient, lock: Lock, token: str) -> None:
        self.token = token
        self._client = client
        self._lock = lock
        self._renewed_s = time.monotonic()
        self._lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="renew-lock", daemon=True)
        self._thread.start()

    def still_held(self) -> bool:
        """False once another builder may hold the lock. Does not ask the server: the flip checks the lock itself."""
        return not self._lost and time.monotonic() - self._renewed_s < TTL_S

    def is_confirmed(self) -> bool:
        """Whether the server confirms that this process holds the lock, even after a long pause of the process."""
        with cache_errors(self._client):
            return bool(self._lock.owned())

    def release(self) -> None:
        """Stop renewing, and release the lock."""
        self._stop.set()
        self._thread.join()
        try:
            self._lock.release()
        except RedisError as error:  # includes LockError: the lock is lost
            logger.warning("lock %s was not released: %s", self._lock.name, error)

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_EVERY_S):
            asked_s = time.monotonic()
            try:
                self._lock.reacquire()
                self._renewed_s = asked_s
            except LockError:
                self._lost = True
                logger.error("lock %s is lost: it expired or was taken", self._lock.name)
                return
            except RedisError as error:
                logger.warning("lock %s was not renewed: %s", self._lock.name, error)


@contextmanager
def hold_lock(client: CacheClient, model: str) -> Iterator[HeldLock]:
    """Hold the publish lock of `model` inside the block.

    Waits for the lock of a killed builder until it expires, at most `TTL_S`. If the lock is renewed meanwhile, its
    holder is alive, and the wait ends with an error.

    Raises:
        LockHeldError: another builder holds the lock; the error names it.
        CacheUnavailableError: the cache does not answer.
    """
    lock = Lock(client, lock_key(model), timeout=TTL_S, thread_local=False)
    token = _new_token()
    with cache_errors(client):
        _acquire(client, lock, token, model)
    held = HeldLock(client, lock, token)
    try:
        yield held
    finally:
        held.release()


def lock_holder(client: CacheClient, model: str) -> str | None:
    """The builder that holds the publish lock of `model`; None if the lock is free."""
    token = read_control(client, lock_key(model))
    if token is None:
        return None
    return token.decode(errors="replace").rpartition(" ")[0] or "an unnamed builder"


def _acquire(client: CacheClient, lock: Lock, token: str, model: str) -> None:
    left_ms = TTL_S * 1000
    is_waiting = False
    while not lock.acquire(blocking=False, token=token):
        holder = lock_holder(client, model) or "a builder that has just finished"
        now_left_ms = client.pttl(lock_key(model))
        # -1: the lock never expires. More than before: it was renewed or taken again. -2: it is gone, try again.
        if now_left_ms == -1 or now_left_ms > left_ms:
            raise LockHeldError(f"model {model!r}", holder)
        if not is_waiting:
            logger.info("waiting up to %.0f s for the lock held by %s", left_ms / 1000, holder)
            is_waiting = True
        left_ms = now_left_ms if now_left_ms >= 0 else left_ms
        time.sleep(POLL_EVERY_S)


def _new_token() -> str:
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    host = socket.gethostname()
    return f"{host} pid {os.getpid()} since {since} {uuid.uuid4().hex}"
