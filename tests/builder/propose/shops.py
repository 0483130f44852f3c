"""Small logs of many forms, as shops and sites write them."""

import numpy as np
import polars as pl

START_S = 1_700_000_000
DAY_S = 86_400


def visits(users: int = 60, per_user: int = 40, items: int = 80) -> pl.DataFrame:
    """Users with a taste: two thirds of a user's events are of its own eight items."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(users), per_user)
    own = (user * 7 + rng.integers(0, 8, len(user))) % items
    item = np.where(rng.random(len(user)) < 0.67, own, rng.integers(0, items, len(user)))
    at = START_S + np.sort(rng.integers(0, 60 * DAY_S, len(user)))
    return pl.DataFrame({"user": user, "item": item, "at": rng.permutation(at)})


def shop() -> pl.DataFrame:
    """Purchases: pieces with returns, fields of products, floats, free texts, ids of baskets."""
    log, rng = visits(), np.random.default_rng(1)
    pieces = np.where(rng.random(len(log)) < 0.05, -1, rng.integers(1, 4, len(log)))
    return log.select(
        customer_id=pl.format("C{}", pl.col("user")),
        productId="item",
        order_id=pl.int_range(len(log)) // 2,
        quantity=pl.Series(pieces),
        category=pl.format("cat {}", pl.col("item") % 9),
        product_name=pl.format("Product no. {}", "item"),
        price=pl.col("item") * 1.25 + 0.99,
        channel=pl.Series(rng.choice(["web", "app"], len(log))),
        remark=pl.format("remark {} of a customer who had much to say", pl.int_range(len(log))),
        ordered_at=pl.from_epoch("at"),
    )


def news() -> pl.DataFrame:
    """Clicks in milliseconds; nothing is read twice."""
    log = visits(items=2_000).unique(["user", "item"], keep="first", maintain_order=True)
    return log.select(user_id="user", click_article_id="item", click_timestamp=pl.col("at") * 1000)


def ratings() -> pl.DataFrame:
    """Stars from 1 to 5 in half steps."""
    log = visits(items=400).unique(["user", "item"], keep="first", maintain_order=True)
    stars = ((pl.col("user") + pl.col("item")) % 9) / 2 + 1
    return log.select(userId="user", movieId="item", rating=stars, timestamp="at")


def impressions() -> pl.DataFrame:
    """Shown items with clicks; a list has four."""
    log, rng = visits(per_user=120), np.random.default_rng(2)
    likes = pl.col("item") % 5 == pl.col("user") % 5
    clicked = (likes & pl.Series(rng.random(len(log)) < 0.8)) | pl.Series(
        rng.random(len(log)) < 0.1
    )
    return log.select(
        impression_id=pl.int_range(len(log)) // 4,
        visitor="user",
        item_id="item",
        position=pl.int_range(len(log)) % 4,
        clicked=clicked.cast(pl.Int8),
        time=pl.from_epoch(pl.col("at")).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def steps() -> pl.DataFrame:
    """Views, carts, purchases of what was in the cart, and returns of some."""
    log = visits(per_user=60)
    place = pl.int_range(len(log))
    kind = (
        pl.when(place % 4 == 0)
        .then(pl.lit("purchase"))
        .when(place % 4 == 1)
        .then(pl.lit("add_to_cart"))
    )
    kind = (
        kind.when(place % 40 == 3)
        .then(pl.lit("return"))
        .when(place % 40 == 7)
        .then(pl.lit("login"))
    )
    return log.select(
        user_id="user",
        event_type=kind.otherwise(pl.lit("view")),
        product_id="item",
        event_time=pl.from_epoch("at"),
    )


def pairs() -> pl.DataFrame:
    """Who took what: no times at all."""
    log = visits(items=400).unique(["user", "item"], keep="first", maintain_order=True)
    return log.select(user_id="user", item_id="item")


def spreadsheet() -> bytes:
    """Semicolons, decimal commas, Latin-1, dates of a country, a word for a missing value."""
    log, is_gap = visits(), pl.int_range(pl.len()) % 50 == 7
    frame = log.select(
        user_nr="user",
        item_nr=pl.when(~is_gap).then("item"),
        Größe=pl.format("{},5", pl.col("item") % 7),
        Datum_time=pl.from_epoch("at").dt.strftime("%d.%m.%Y %H:%M"),
    )
    return frame.write_csv(separator=";", null_value="NULL").encode("latin-1")
