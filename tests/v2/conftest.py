"""Fixtures of the protocol's tests: the service's world is theirs too."""

from tests.service.conftest import anyio_backend, shared_cache, world

__all__ = ["anyio_backend", "shared_cache", "world"]
