"""The forms of a cache URL, and what an error or a log line shows of it."""

from pathlib import Path

import pytest

from models.contract.cache_url import embedded_folder, redact_url, split_cluster_url


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:secret@cache", "redis://cache"),
        ("rediss://me:se@cret@cache:6379", "rediss://cache:6379"),
        ("rediss+cluster://ann:p@ss@host:1/2", "rediss+cluster://host:1/2"),
        ("redis://cache/0?password=secret", "redis://cache/0"),
        ("redis://:se/cret@cache:6379/0", "redis://cache:6379/0"),
        ("redis://:pa/ss#?@host:1", "redis://host:1"),
        ("unix:///var/cache/valkey.sock", "unix:///var/cache/valkey.sock"),
        ("unix://ann@/run/redis.sock?password=pass", "unix:///run/redis.sock"),
        ("ann:pass@host:1", "host:1"),
        ("embedded:var/c@che", "embedded:var/c@che"),
    ],
)
def test_a_redacted_url_has_no_user_and_no_password(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted


@pytest.mark.parametrize(
    ("url", "plain", "is_cluster"),
    [
        ("redis+cluster://host:1/2", "redis://host:1/2", True),
        ("rediss+cluster://:secret@host", "rediss://:secret@host", True),
        ("redis://host:1/2", "redis://host:1/2", False),
        ("unix:///path", "unix:///path", False),
    ],
)
def test_a_cluster_is_named_by_its_scheme(url: str, plain: str, is_cluster: bool) -> None:
    assert split_cluster_url(url) == (plain, is_cluster)


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("embedded:", Path("var/cache")),
        ("embedded:/tmp/x", Path("/tmp/x")),
        ("redis://host:1/2", None),
        ("unix:///path", None),
    ],
)
def test_only_an_embedded_url_has_a_folder(url: str, folder: Path | None) -> None:
    assert embedded_folder(url) == folder
