"""Who may ask for what: keys for scoring, other keys for what changes the service, and nothing for probes.

A key comes in `X-API-Key` or as `Authorization: Bearer`. The settings hold SHA-256 hashes only: keys are long and
random, so a fast hash is enough (`service.tools.keys` makes a key and its hash). Without keys for scoring whoever
reaches the service may score. Without administrators' keys it obeys only if it has no keys at all and listens on
loopback: keys for scoring mean that strangers come, through a proxy, and a key for scoring is none for more.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from enum import IntEnum

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import AccessError, KeyMissingError
from service.settings import Settings
from service.status import headers_of, status_of

PROBES = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"})
METRICS = "/metrics"
BEARER = "bearer "

Refusal = Callable[[int, str, dict[str, str]], ASGIApp]


class Role(IntEnum):
    """What a key is for. A higher one may do what a lower one may."""

    SCORING = 1
    ADMIN = 2


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on. Of a name other than `localhost` nobody knows."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def exposure_problem(settings: Settings) -> str | None:
    """Why these settings would open the service to strangers, or their traffic; None if they would not."""
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        return "ABSORB_TLS_CERT_FILE and ABSORB_TLS_KEY_FILE: got one, expected both or neither"
    if settings.api_keys or settings.allow_open or is_loopback(settings.host):
        return None
    return (
        f"ABSORB_HOST: got {settings.host!r}, expected a loopback address, or ABSORB_API_KEYS "
        "(`python -m service.tools.keys` makes one), or ABSORB_ALLOW_OPEN=true where something else "
        "decides who gets here"
    )


class Access:
    """Knows the keys' hashes."""

    def __init__(self, settings: Settings) -> None:
        self._hashes = {
            Role.SCORING: _digests(settings.api_keys),
            Role.ADMIN: _digests(settings.admin_keys),
        }
        self.needs_key = bool(settings.api_keys)
        self._obeys_all = is_loopback(settings.host) and not self.needs_key
        self.open_paths = PROBES if settings.metrics_need_key else PROBES | {METRICS}

    def check(self, needed: Role, headers: Mapping[str, str]) -> None:
        """Return if what comes with these headers may be done.

        Args:
            needed: role that may do it.
            headers: names in lower case.

        Raises:
            KeyMissingError: no key, or an unknown one.
            AccessError: the key is for less than that.
        """
        if not self._hashes[needed]:
            if needed is Role.SCORING or self._obeys_all:
                return
            raise AccessError(
                "no administrator's key is set, so this is done on loopback and without keys only"
            )
        key = _key_of(headers)
        if key is None:
            raise KeyMissingError("none")
        role = self._role_of(key)
        if role is None:
            raise KeyMissingError("an unknown one")
        if role < needed:
            raise AccessError("key: got one for scoring, expected an administrator's")

    async def admin(self, request: Request) -> None:
        """A FastAPI dependency of routes that change the service; raises as `check` does."""
        self.check(Role.ADMIN, request.headers)

    def _role_of(self, key: str) -> Role | None:
        digest = hashlib.sha256(key.encode()).digest()
        # All are compared, and each in constant time: how long it takes tells nothing about which one is close.
        found = [
            role
            for role, known in self._hashes.items()
            for one in known
            if hmac.compare_digest(one, digest)
        ]
        return max(found, default=None)


class KeyCheck:
    """The middleware that asks for a key wherever it is needed."""

    def __init__(self, app: ASGIApp, access: Access, refuse: Refusal) -> None:
        """Keep the parts.

        Args:
            app: what answers those who may ask.
            access: knows the keys.
            refuse: makes an error's answer from its status, its text and its headers.
        """
        self._app = app
        self._access = access
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] not in self._access.open_paths:
            try:
                self._access.check(Role.SCORING, Headers(scope=scope))
            except AccessError as error:
                answer = self._refuse(status_of(error), str(error), headers_of(error))
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _digests(hashes: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(one) for one in hashes.split(",") if one)


def _key_of(headers: Mapping[str, str]) -> str | None:
    said = headers.get("authorization", "")
    if said[: len(BEARER)].lower() == BEARER:
        return said[len(BEARER) :].strip()
    return headers.get("x-api-key")
