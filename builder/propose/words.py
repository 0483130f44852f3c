"""Words in the names of columns, and in the names of kinds of events."""

import re
from typing import Literal

Role = Literal[
    "user", "item", "time", "label", "rating", "kind", "quantity", "list", "title", "later"
]
WORDS: dict[Role, tuple[str, ...]] = {
    "user": (
        *("user", "customer", "household", "member", "reviewer", "visitor", "client", "buyer"),
        *("shopper", "account", "person", "subscriber", "uid", "userid", "cookie", "device"),
        *("player", "viewer", "listener", "consumer", "profile", "session"),
    ),
    "item": (
        *("item", "product", "movie", "film", "article", "asin", "sku", "song", "track", "video"),
        *("book", "isbn", "news", "ad", "offer", "game", "artist", "album", "itemid", "iid"),
        *(
            "productid",
            "movieid",
            "listing",
            "post",
            "recipe",
            "business",
            "hotel",
            "show",
            "content",
        ),
    ),
    "time": ("timestamp", "time", "datetime", "date", "ts", "at", "when", "created", "day"),
    "label": (
        *("click", "clicked", "label", "target", "bought", "purchased", "converted", "conversion"),
        *("like", "liked", "is_click", "watched", "y"),
    ),
    "rating": ("rating", "stars", "score", "overall", "grade", "rate"),
    "kind": ("event", "action", "behavior", "behaviour", "type", "kind", "activity", "interaction"),
    "quantity": ("quantity", "qty", "pieces", "units", "amount", "count"),
    "list": (
        "impression",
        "list",
        "request",
        "slate",
        "query",
        "basket",
        "order",
        "cart",
        "session",
    ),
    "title": ("title", "name", "headline"),
    "later": (
        *("sales", "disc", "discount", "price", "value", "revenue", "dwell", "duration", "read"),
        *("watch", "scroll", "size", "votes", "next", "propensity", "end", "reward"),
    ),
}
"""What a column may be -> words that names of such columns have, the surest first.

"later" holds words of what is known only after the event, so that a request could not send it.
"""
KINDS: dict[str, tuple[str, ...]] = {
    "cancel": ("return", "refund", "cancel", "remove"),
    "negative": (
        "dislike",
        "skip",
        "hide",
        "impression",
        "shown",
        "exposure",
        "display",
        "downvote",
    ),
    "positive": (
        "buy",
        "bought",
        "purchase",
        "order",
        "transaction",
        "checkout",
        "conversion",
        "sale",
        "pay",
    ),
    "history": (
        "cart",
        "wish",
        "fav",
        "like",
        "save",
        "click",
        "play",
        "listen",
        "read",
        "view",
        "open",
        "detail",
    ),
}
"""What a kind of events may be -> parts of its name, the strongest sign of interest first."""


def words_of(name: str) -> list[str]:
    """Words of a column's name: of userId, click_article_id and Product-ID too."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [word for word in re.split(r"[^A-Za-z0-9]+", spaced.lower()) if word]


def rank_of(name: str, role: Role) -> int | None:
    """How sure a name says a role: 0 is the surest; None: not at all."""
    words = words_of(name)
    found = [WORDS[role].index(word) for word in words if word in WORDS[role]]
    return min(found) if found else None


def is_named(name: str, role: Role) -> bool:
    """Whether a name says a role."""
    return rank_of(name, role) is not None


def kind_of(name: str) -> str | None:
    """What a kind of events is by its name: a key of `KINDS`."""
    lowered = name.lower()
    return next(
        (kind for kind, parts in KINDS.items() if any(part in lowered for part in parts)), None
    )
