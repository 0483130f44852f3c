"""A user is forgotten by builders, workers, services and the cache: afterwards no byte names the user.

But for the shop's own log, which is read only.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import polars as pl
import pytest

from builder.gate.report import JSON, MARKDOWN
from builder.ingest.events import read_user_ids
from builder.ingest.sources import SOURCES
from builder.recipe.recipe import load_recipe
from models.live.keys import TOUCHED_KEY, log_key, shown_user, tombstone
from tests.e2e.builders import ROOT, TINY, Build, Builder, finish
from tests.e2e.deadline import LIMIT_S, wait_until
from tests.e2e.services import ready_service
from tests.e2e.world import Cache

pytestmark = pytest.mark.timeout(1800)
USER, LONGER = "zqx-forget-81", "zqx-forget-81x"
"""The user, and another one, whose id begins with the user's: nothing of that one may be lost."""
RECIPE = """
name = "tiny"
serve_as = "tiny"
[data]
source = "files"
events = "shop.csv"
items = "items.csv"
item_fields = ["category"]
context_fields = ["hour"]
category = "category"
min_item_count = 2
[data.columns]
user = "user_id"
item = "item_id"
time = "timestamp"
label = "label"
"""


@dataclass(frozen=True)
class Shop:
    """Folders of a shop.

    Attributes:
        home: of all that the programs write, but for the cache.
        build: the recipe, over the shop's own log.
        cache: its server.
    """

    home: Path
    build: Build
    cache: Cache

    @property
    def slow(self) -> Path:
        return self.home / "slow"

    @property
    def settings(self) -> Mapping[str, str]:
        return {
            "ABSORB_SLOW_MS": "0.000001",
            "ABSORB_SLOW_DIR": str(self.slow),
            "ABSORB_ACCESS_LOG": "INFO",
            "ABSORB_HOST_CACHE_BYTES": "10000000",
        }

    def files(self) -> Iterator[Path]:
        for folder in (self.home, self.cache.folder):
            yield from (path for path in folder.rglob("*") if path.is_file())

    def named_by(self, user: str = USER) -> list[str]:
        """Keys and files whose names or bytes have the id of the user."""
        client = self.cache.client
        client.config_set("rdbcompression", "no")  # DUMP would hide an id
        keys: list[bytes] = list(client.scan_iter())
        found = [repr(key) for key in keys if names(key + b"\n" + (client.dump(key) or b""), user)]
        logs = str(client.slowlog_get(-1)).encode()
        found += ["slow log"] if names(logs, user) else []
        return found + [str(path) for path in self.files() if file_names(path, user)]


def names(raw: bytes, user: str) -> bool:
    """Whether bytes hold the id of the user, and not only as a part of the longer one."""
    return user.encode() in (raw.replace(LONGER.encode(), b"") if user == USER else raw)


def file_names(path: Path, user: str) -> bool:
    try:
        return names(str(path).encode() + path.read_bytes(), user)
    except FileNotFoundError:  # the server removes files that it has replaced
        return False


@pytest.fixture
def shop(cache: Cache, tmp_path: Path) -> Shop:
    """The log of the tiny recipe as files, with ids that do not occur by chance, built twice.

    The gate compares both builds on one request, the newest: the user's.
    """
    own = tmp_path / "shop"
    own.mkdir()
    raw = SOURCES["synthetic"].read(load_recipe(TINY))
    ids = {f"u{at}": f"shopper-{at}" for at in range(200)} | {"u3": USER, "u4": LONGER}
    columns = ["user_id", "item_id", "timestamp", "label"]
    events = raw.events.frame.select(columns)
    is_newest = (pl.col("user_id") == USER) & (
        pl.col("timestamp") == pl.col("timestamp").max().over("user_id")
    )
    newest = pl.when(is_newest).then(pl.col("timestamp").max() + 1).otherwise("timestamp")
    events = events.with_columns(events["user_id"].replace_strict(ids))
    events.with_columns(newest.alias("timestamp")).write_csv(own / "shop.csv")
    assert raw.items is not None
    raw.items.frame.write_csv(own / "items.csv")
    _, _, rest = TINY.read_text().partition("[split]")
    recipe = f"{RECIPE}[split]{rest}requests = 1\n".replace(
        "rank_distance = 0.35", "rank_distance = 1.0"
    )
    (own / "shop.toml").write_text(recipe)
    home = tmp_path / "var"
    build = Build(own / "shop.toml", home / "runs", home / "artifacts", cache.url)
    finish(build.run())
    (own / "shop.toml").write_text(recipe.replace("steps = 60", "steps = 30"))
    finish(build.run())
    return Shop(home, build, cache)


def follow(shop: Shop) -> None:
    """Fold all waiting events."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ABSORB_")} | {
        "ABSORB_CACHE_URL": shop.cache.url,
        "ABSORB_ARTIFACT_DIR": str(shop.build.artifacts),
    }
    with (shop.home / "follow.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-m", "service.tools.follow", "--until-empty"],
            cwd=ROOT, env=environment, stdout=log, stderr=log, timeout=LIMIT_S, check=True,
        )  # fmt: skip


def forget(shop: Shop, *users: str) -> str:
    folders = ("--runs", str(shop.build.runs), "--artifacts", str(shop.build.artifacts))
    captured = ("--captured", str(shop.slow))
    return finish(Builder("forget", *users, *folders, *captured, "--cache", shop.cache.url))


def send_events(url: str, user: str, num_events: int, first: int = 0) -> int:
    """Send purchases; the status of the answer."""
    events = [
        {"user_id": user, "item_id": f"i{at}", "event_id": f"{user}:{at}", "kind": "buy"}
        for at in range(first, first + num_events)
    ]
    return httpx.post(f"{url}/v1/events", json={"events": events}, timeout=LIMIT_S).status_code


def source(url: str, user: str) -> str:
    """Score, and return where the user's state came from."""
    body = {"user_id": user, "candidates": ["i1", "i2", "i3"]}
    answer = httpx.post(f"{url}/v1/score", json=body, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["state"]["source"])


def name_as_older_versions(run: Path) -> None:
    """Name the user in the gate's reports by the id, as versions before the hashes did."""
    for name in (JSON, MARKDOWN):
        text = (run / name).read_text()
        assert f"user {shown_user(USER)} at " in text
        (run / name).write_text(text.replace(shown_user(USER), USER))


def test_after_forgetting_no_byte_names_the_user(shop: Shop) -> None:
    client = shop.cache.client
    with ready_service(
        shop.cache.url, shop.build.artifacts, shop.home / "service.log", shop.settings
    ) as url:
        for user in (USER, LONGER):
            assert source(url, user) == "hit"
            assert send_events(url, user, 3) == 202
        follow(shop)
        for user in (USER, LONGER):
            assert send_events(url, user, 2, first=3) == 202  # these wait
            assert source(url, user) == "hit"
        wait_until(lambda: len(list(shop.slow.glob("*"))) > 0, "captures")
        assert not any("gate." in place for place in shop.named_by())
        name_as_older_versions(shop.build.folder.path)
        before = "\n".join(shop.named_by())
        for place in ("absorb:tiny:", "absorb.history:tiny:", log_key(USER), ":touched", ":in",
                      "records.bin", "histories.bin", "events.json", "slow.jsonl", ".aof",
                      "gate.json", "gate.md"):  # fmt: skip
            assert place in before

        shown = forget(shop, USER)

        assert not names(shown.encode(), USER)
        assert tombstone(USER)[:12] in shown
        wait_until(lambda: not shop.named_by(), "no byte to name the user")
        assert source(url, USER) == "miss"
        assert source(url, LONGER) == "hit"
        assert send_events(url, USER, 1, first=9) == 410
        assert "nothing is left to remove" in forget(shop, USER)
    follow(shop)
    assert_the_other_is_whole(shop)
    wait_until(lambda: not shop.named_by(), "no byte to name the user after the worker")

    finish(shop.build.run())

    assert client.exists(shop.cache.serving().key(LONGER))
    ids = read_user_ids(shop.build.folder.events)
    assert LONGER in ids
    assert USER not in ids
    assert shop.cache.serving().num_users == 199
    assert shop.named_by() == []


def assert_the_other_is_whole(shop: Shop) -> None:
    client = shop.cache.client
    assert client.exists(shop.cache.serving().key(LONGER), log_key(LONGER)) == 2
    assert client.hlen(log_key(LONGER)) == 5 + 1
    assert client.zscore(TOUCHED_KEY, LONGER)
    assert any("slow.jsonl" in place for place in shop.named_by(LONGER))
