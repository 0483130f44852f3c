"""Access control: scoring keys, administrators' keys, and open paths for probes.

A key comes in `X-API-Key` or as `Authorization: Bearer`. The settings hold SHA-256 hashes only: keys are long and
random, so a fast hash is enough (`python -m service.tools.keys` makes a key and its hash). Without scoring keys
everyone who can connect may score. Without administrators' keys the administrators' routes are open only if there are
no scoring keys either and the service listens on loopback: scoring keys mean that clients come from elsewhere, through
a proxy, and a scoring key grants nothing else.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from enum import IntEnum

from starlette.requests import Request
from starlette.types import Scope

from service.errors import AccessError, KeyMissingError
from service.settings import Settings
from service.transport.headers import Headers

PROBES = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"})
METRICS = "/metrics"
BEARER = "bearer "
KEY_HEADERS = frozenset({b"authorization", b"x-api-key"})


class Role(IntEnum):
    """What a key allows. A higher role includes the lower ones."""

    SCORING = 1
    ADMIN = 2


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only. Names other than `localhost` are not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def exposure_problem(settings: Settings) -> str | None:
    """Why these settings would expose the service or its traffic by mistake; None if they would not."""
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        return "ABSORB_TLS_CERT_FILE and ABSORB_TLS_KEY_FILE: got one, expected both or neither"
    if settings.api_keys or settings.allow_open or is_loopback(settings.host):
        return None
    return (
        f"ABSORB_HOST: got {settings.host!r}, expected a loopback address, or ABSORB_API_KEYS "
        "(`python -m service.tools.keys` makes one), or ABSORB_ALLOW_OPEN=true where something else "
        "controls access"
    )


class Access:
    """Checks keys against the hashes of the settings.

    Attributes:
        needs_key: whether scoring needs a key.
        open_paths: paths that never need one.
    """

    def __init__(self, settings: Settings) -> None:
        self._hashes = {
            Role.SCORING: _digests(settings.api_keys),
            Role.ADMIN: _digests(settings.admin_keys),
        }
        self.needs_key = bool(settings.api_keys)
        self._is_admin_open = is_loopback(settings.host) and not self.needs_key
        self.open_paths = PROBES if settings.metrics_need_key else PROBES | {METRICS}

    def check(self, needed: Role, headers: Mapping[str, str]) -> None:
        """Return if a request with these headers is allowed.

        Args:
            needed: role that the request needs.
            headers: names in lower case.

        Raises:
            KeyMissingError: no key, or an unknown one.
            AccessError: the key's role is not enough.
        """
        if not self._hashes[needed]:
            if needed is Role.SCORING or self._is_admin_open:
                return
            raise AccessError(
                "key: got no administrator's key in the settings, expected one: without it this route is open only on "
                "loopback and without scoring keys"
            )
        key = _key_of(headers)
        if key is None:
            raise KeyMissingError("none")
        role = self._role_of(key)
        if role is None:
            raise KeyMissingError("an unknown one")
        if role < needed:
            raise AccessError("key: got one for scoring, expected an administrator's")

    def check_scoring(self, scope: Scope, headers: Headers) -> None:
        """Return if a request may score, or its path is open; raises as `check` does.

        Args:
            scope: ASGI scope of the request.
            headers: its headers.
        """
        if scope["path"] not in self.open_paths:
            known = KEY_HEADERS & headers.keys()
            keys = {name.decode(): headers[name].decode("latin-1") for name in known}
            self.check(Role.SCORING, keys)

    async def admin(self, request: Request) -> None:
        """FastAPI dependency of administrators' routes; raises as `check` does."""
        self.check(Role.ADMIN, request.headers)

    def _role_of(self, key: str) -> Role | None:
        digest = hashlib.sha256(key.encode()).digest()
        # Every hash is compared, each in constant time: the duration tells nothing about which one is close.
        roles = [
            role
            for role, hashes in self._hashes.items()
            for known in hashes
            if hmac.compare_digest(known, digest)
        ]
        return max(roles, default=None)


def _digests(hashes: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(text) for text in hashes.split(",") if text)


def _key_of(headers: Mapping[str, str]) -> str | None:
    authorization = headers.get("authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    return headers.get("x-api-key")
