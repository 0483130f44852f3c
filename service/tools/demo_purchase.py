"""The second part of `absorb demo`: the user buys something, and the next request ranks with it."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis.exceptions import RedisClusterException, RedisError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.contract.cache_url import redact_url
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import AbsorbError, CacheUnavailableError
from models.live.keys import history_key
from service.errors import NotReadyError
from service.tools.published import Published, connect
from service.tools.running_worker import running_worker, wait_until_follows

LOG = Path("var/demo/follow.log")
LIMIT_S = 20.0
"""How long the state may take to change."""
LOOK_EVERY_S = 0.005
AFTER_S = 60
"""The purchase's time is so long after that of the state. The log may end years ago: a purchase of today would make all
events of the history old, and everything would move for that reason alone."""
NUM_MOVED = 5
"""Other candidates that are printed."""
MAX_NAME_WIDTH = 38

Json = dict[str, Any]
Send = Callable[[str, str, Json], Json]
"""Method, path, body -> answer; raises NotReadyError."""


@dataclass(frozen=True)
class Shopper:
    """Who buys, and what is ranked for whom.

    Attributes:
        user_id: the user.
        recent: the user's latest items.
        candidates: ids, or objects with ids and fields.
        model: name of the model.
    """

    user_id: str
    recent: frozenset[str]
    candidates: Sequence[Any]
    model: str

    @property
    def ids(self) -> list[str]:
        """Ids of the candidates."""
        return [one["id"] if isinstance(one, dict) else one for one in self.candidates]


@dataclass(frozen=True)
class Purchase:
    """What was bought, and what it changed.

    Attributes:
        item: raw id.
        before: answer to the request before.
        after: answer to the same request, once the state has changed.
        ts_s: time of the purchase.
        took_s: seconds from sending the purchase to the changed ranking.
    """

    item: str
    before: Json
    after: Json
    ts_s: int
    took_s: float


def show_purchase(
    send: Send,
    cache_url: str,
    published: Published,
    shopper: Shopper,
    names: Mapping[str, str],
    console: Console,
) -> None:
    """Start a worker, buy, and print what moved; or why that cannot be shown.

    Args:
        send: sends requests to the service.
        cache_url: of the cache, as in the settings.
        published: the generation that scores.
        shopper: who buys.
        names: item id -> display text.
        console: prints.
    """
    try:
        purchase = _purchase(send, cache_url, published, shopper)
    except AbsorbError as error:
        console.print(f"No purchase to show: {error}", markup=False, soft_wrap=True)
        return
    cut_s = published.generation.as_of_s
    console.print(story(purchase, shopper, names, cut_s), markup=False, soft_wrap=True)
    console.print(moved(purchase, shopper.ids, names))


def _purchase(send: Send, cache_url: str, published: Published, shopper: Shopper) -> Purchase:
    generation = published.generation
    try:
        with connect(resolve_cache_url(cache_url)) as cache:
            if not cache.exists(history_key(generation, shopper.user_id)):
                raise NotReadyError(
                    f"generation {generation.name} has no base history of user {shopper.user_id}, so the state does "
                    "not follow events; publish again with `cache.follow = true`"
                )
            with running_worker(LOG, {"ABSORB_LOG_LEVEL": "INFO"}) as worker:
                wait_until_follows(cache, generation.model, worker, LOG)
                return buy(send, shopper, generation.as_of_s)
    except (RedisError, RedisClusterException, OSError) as error:
        raise CacheUnavailableError(redact_url(cache_url), str(error)) from error


def buy(send: Send, shopper: Shopper, cut_s: int) -> Purchase:
    """Rank, send a purchase of a candidate from the middle of the ranking, and rank again once the state has it.

    Args:
        send: sends requests to the service.
        shopper: who buys.
        cut_s: of the build.

    Raises:
        NotReadyError: a request failed, there is nothing to buy, or the state does not change in time.
    """
    before = _score(send, shopper, shopper.candidates)
    item = middle(before, shopper)
    ts_s = (before["state"]["as_of_s"] or cut_s) + AFTER_S
    # Sent again, it is the same event.
    event_id = f"demo-{ts_s}-{hashlib.sha256(item.encode()).hexdigest()[:16]}"
    event = {"user_id": shopper.user_id, "item_id": item, "kind": "buy", "ts_s": ts_s}
    began_s = time.perf_counter()
    accepted = send("POST", "/v1/events", {**event, "event_id": event_id})
    bought = [
        one for one, name in zip(shopper.candidates, shopper.ids, strict=True) if name == item
    ]
    while time.perf_counter() - began_s < LIMIT_S:
        if _has(_score(send, shopper, bought[:1]), ts_s):  # cheaper than the whole slate
            after = _score(send, shopper, shopper.candidates)
            if _has(after, ts_s):
                return Purchase(item, before, after, ts_s, time.perf_counter() - began_s)
        time.sleep(LOOK_EVERY_S)
    again = " (an earlier run had sent it)" if accepted["duplicates"] else ""
    raise NotReadyError(
        f"{LIMIT_S:g} s after the purchase of {item}{again} the state is the same (log of the worker: {LOG})"
    )


def middle(answer: Json, shopper: Shopper) -> str:
    """The candidate nearest to the middle of the ranking that the user did not have lately, and the model knows.

    Raises:
        NotReadyError: there is none.
    """
    left_out = {*shopper.recent, *answer["unknown_candidates"], *answer["new_items"]}
    order = [item for item, _ in sorted(ranks(answer, shopper.ids).items(), key=lambda one: one[1])]
    places = sorted(range(len(order)), key=lambda place: abs(place - len(order) // 2))
    for place in places:
        if order[place] not in left_out:
            return order[place]
    raise NotReadyError(
        "the user had every candidate lately, or the model knows none of the others"
    )


def ranks(answer: Json, ids: Sequence[str]) -> dict[str, int]:
    """Candidate -> its rank, from 1; ties in the order of the request."""
    order = sorted(range(len(ids)), key=lambda place: -answer["scores"][place])
    return {ids[place]: rank for rank, place in reversed(list(enumerate(order, 1)))}


def story(purchase: Purchase, shopper: Shopper, names: Mapping[str, str], cut_s: int) -> str:
    """What was done, in words."""
    as_of_s = purchase.before["state"]["as_of_s"] or cut_s
    name = names.get(purchase.item, purchase.item)
    more = "; it holds events after the build already, such as those of earlier demos"
    known = more if as_of_s > cut_s else ""
    return (
        f"User {shopper.user_id} buys {name}, from the middle of the ranking: POST /v1/events, with `absorb follow` "
        f"running.\nDated {_time(purchase.ts_s)}, a minute after the state{known}: so ages stay, and what moves is due "
        f"to the purchase.\nFrom the POST to the changed ranking: {1000 * purchase.took_s:.0f} ms."
    )


def moved(purchase: Purchase, ids: Sequence[str], names: Mapping[str, str]) -> Table:
    """Ranks and scores before and after: of what was bought, and of the others that moved most, by rank."""
    before, after = ranks(purchase.before, ids), ranks(purchase.after, ids)
    scores = [
        dict(zip(ids, one["scores"], strict=True)) for one in (purchase.before, purchase.after)
    ]
    others = [item for item in before if item != purchase.item]
    others.sort(key=lambda item: (-abs(after[item] - before[item]), before[item]))
    table = Table(title="Bought, and what else moved most", title_justify="left")
    table.add_column("item", no_wrap=True)
    if names:
        table.add_column("name", no_wrap=True, max_width=MAX_NAME_WIDTH)
    for column in ("rank before", "after", "score before", "after"):
        table.add_column(column, justify="right", no_wrap=True)
    for item in [purchase.item, *others[:NUM_MOVED]]:
        name = [Text(names.get(item, ""))] if names else []
        style = "bold" if item == purchase.item else ""
        place = [f"{before[item]:,}", f"{after[item]:,}"]
        table.add_row(
            Text(item), *name, *place, *(f"{one[item]:.4f}" for one in scores), style=style
        )
    return table


def _score(send: Send, shopper: Shopper, candidates: Sequence[Any]) -> Json:
    body = {"user_id": shopper.user_id, "candidates": list(candidates), "model": shopper.model}
    return send("POST", "/v1/score", body)


def _has(answer: Json, ts_s: int) -> bool:
    """Whether the scores are from a state with the purchase."""
    as_of_s = answer["state"]["as_of_s"]
    return as_of_s is not None and as_of_s >= ts_s


def _time(epoch_s: int) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%F %H:%M}"
