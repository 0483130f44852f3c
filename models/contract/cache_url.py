"""The URLs of a cache, as the builder and the service read them. This module starts nothing and connects to nothing.

Forms:

    redis://host:port/db           one server; rediss:// uses TLS
    redis+cluster://host:port      any one node of a Redis Cluster; rediss+cluster:// uses TLS
    unix:///path/to/socket         one server on a unix socket
    embedded:[folder]              the embedded server over a folder, see `models/contract/embedded_cache.py`
"""

from pathlib import Path

EMBEDDED = "embedded:"
CLUSTER_MARK = "+cluster://"
DEFAULT_FOLDER = "var/cache"


def embedded_folder(url: str) -> Path | None:
    """The folder of an embedded cache, `var/cache` unless the URL names one; None for the other kinds of URL."""
    if not url.startswith(EMBEDDED):
        return None
    return Path(url.removeprefix(EMBEDDED) or DEFAULT_FOLDER)


def split_cluster_url(url: str) -> tuple[str, bool]:
    """The URL as a Redis client reads it, and whether it names a node of a Redis Cluster."""
    scheme, mark, rest = url.partition(CLUSTER_MARK)
    return (f"{scheme}://{rest}", True) if mark else (url, False)


def redact_url(url: str) -> str:
    """The URL without user name, password and query, for messages and logs.

    Split by hand: a URL parser reads a password that holds a slash as a path.
    """
    scheme, mark, rest = url.rpartition("://")
    if not mark and url.startswith(EMBEDDED):
        return url
    return scheme + mark + rest.rpartition("@")[2].partition("?")[0]
