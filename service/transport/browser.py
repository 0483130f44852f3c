"""Rejects what web pages of others send through a user's browser. Keys stop such pages; a keyless service needs this.

A browser lets any page POST to `http://127.0.0.1:8000`, though the page cannot read the answer (cross-site request).
With a DNS name that first leads to the attacker and then to 127.0.0.1, the page can also read it (DNS rebinding): the
browser takes both for one site. But it states the truth in headers that no page can change:

    Origin           scheme, host and port of the page; browsers send it with every POST
    Sec-Fetch-Site   whether the page is of the same site
    Host             the name that the page used: under DNS rebinding the attacker's

Every POST is checked for its origin, scores included: they take processor time, fill the host tier and count in the
metrics. On loopback without keys every request is checked for its host, since answers name users and models; probes are
not. gRPC needs no check: browsers do not speak it.
"""

from collections.abc import Iterable
from functools import lru_cache

from starlette.types import Scope

from models.contract.errors import shown
from service.errors import AccessError
from service.settings import Settings
from service.transport.auth import PROBES, is_loopback
from service.transport.headers import Headers

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""The usual names; all other addresses of loopback are known as well."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
FOREIGN_SITES = frozenset({b"cross-site", b"same-site"})
"""Values of Sec-Fetch-Site for pages of others; `same-site` is another port or subdomain."""
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
TELLING = (b"host", b"origin", b"sec-fetch-site")
"""Headers that decide; HTTP allows one of each (RFC 9112, 3.2, and RFC 9110, 5.3)."""
REMEMBERED = 256
"""Hosts and origins whose check is remembered."""
OWN_PAGES = "expected a page of this service, or of an origin in ABSORB_ALLOWED_ORIGINS"


class BrowserRules:
    """Which requests may come from a page in a browser."""

    def __init__(self, settings: Settings) -> None:
        """Read the rules.

        Args:
            settings: address and keys of the service, and which hosts and origins are allowed.
        """
        self._hosts = {*LOOPBACK, settings.host.lower(), *_listed(settings.allowed_hosts)}
        self._origins = set(_listed(settings.allowed_origins))
        is_open = not settings.api_keys
        is_local = is_open and is_loopback(settings.host)
        self._checks_hosts = is_local or bool(settings.allowed_hosts)
        self._checks_origins = is_open or bool(self._origins)
        self._is_known_host = lru_cache(REMEMBERED)(self._is_allowed_host)
        self._is_known_origin = lru_cache(REMEMBERED)(self._is_allowed_origin)

    @property
    def is_needed(self) -> bool:
        """Whether any request can be rejected."""
        return self._checks_hosts or self._checks_origins

    def check(self, scope: Scope, headers: Headers) -> None:
        """Return if the request may come from where it says.

        Raises:
            AccessError: it may not.
        """
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            raise AccessError(refusal)

    def _refusal(self, scope: Scope, headers: Headers) -> str | None:
        # Of two, a proxy in front may have checked the other one.
        if len(headers) < len(scope["headers"]) and (name := _repeated(scope)):
            return f"{name}: got several headers, expected one"
        host = headers.get(b"host", b"")
        if self._checks_hosts and not self._is_known_host(host) and scope["path"] not in PROBES:
            return (
                f"host: got {_shown(host)}, expected a name of loopback, the address that the service listens on, or "
                "a name in ABSORB_ALLOWED_HOSTS"
            )
        if self._checks_origins and scope["method"] not in SAFE:
            return self._foreign_page(host, headers)
        return None

    def _foreign_page(self, host: bytes, headers: Headers) -> str | None:
        origin, site = headers.get(b"origin", b""), headers.get(b"sec-fetch-site", b"")
        if origin and not self._is_known_origin(origin, host):
            return f"origin: got {_shown(origin)}, {OWN_PAGES}"
        if not origin and site in FOREIGN_SITES:
            return f"sec-fetch-site: got {_shown(site)}, {OWN_PAGES}"
        return None

    def _is_allowed_host(self, host: bytes) -> bool:
        # Programs may leave the header out; browsers never do.
        name = _without_port(host.decode("latin-1").lower())
        return not name or name in self._hosts or name.endswith(".localhost") or is_loopback(name)

    def _is_allowed_origin(self, origin: bytes, host: bytes) -> bool:
        text = origin.decode("latin-1").lower()
        if text in self._origins:
            return True
        scheme, _, authority = text.partition("://")
        port = DEFAULT_PORTS.get(scheme)
        own = host.decode("latin-1").lower()
        return port is not None and authority.removesuffix(port) == own.removesuffix(port)


def _repeated(scope: Scope) -> str:
    """The first of `TELLING` that a request has several times; empty if there is none."""
    names = [name for name, _ in scope["headers"]]
    return next((name.decode() for name in TELLING if names.count(name) > 1), "")


def _listed(text: str) -> Iterable[str]:
    return (part.strip().lower().rstrip("/") for part in text.split(",") if part.strip())


def _without_port(host: str) -> str:
    """The name or address of a Host header, without brackets and the dot at the end of a full name."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _shown(value: bytes) -> str:
    return shown(value.decode("latin-1"))
