"""Small files in Amazon's and Taobao's official formats, and the shipped recipes over them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.dataset.batches import Part, find_slates
from builder.ingest.events import Events
from builder.ingest.sources.taobao import END_S, START_S
from builder.recipe.recipe import Recipe, load_recipe
from tests.builder.logs import write_lines

PARTS: tuple[Part, ...] = ("train", "validate", "test")
USERS, ITEMS, REVIEWS = 80, 30, 9
DAY_S = 86_400
CATEGORIES = {"Mystery": 0, 'Children\'s "Best"': 1, "Romans à clef": 2}


def shipped(name: str, folder: Path, **history: int) -> Recipe:
    """The shipped recipe over files in `folder`, with a budget of two steps."""
    recipe = load_recipe(f"builder/recipes/{name}.toml")
    rule = replace(recipe.train, steps=2, slates_per_step=16, validate_every=1, threads=1)
    return replace(
        recipe,
        data=replace(recipe.data, path=str(folder)),
        history=replace(recipe.history, **history),
        train=rule,
    )


def amazon(folder: Path) -> Recipe:
    return shipped("amazon-books", folder, min_events=5)


def asin(item: int) -> str:
    return f"{item:010}"


def reviews() -> list[dict[str, Any]]:
    """A review a day of each user, on the last day two of users 0, 10, …; in the order of items, as the real file."""
    found = [
        {
            "reviewerID": f"A{user:013}",
            "asin": asin((user + 7 * place) % ITEMS),
            "reviewerName": 'Zoë "Z" O\'Neil',
            "helpful": [0, 1],
            "reviewText": 'It\'s "fine", {really}.\nTwo lines \\ and a tab\t.',
            "overall": 5.0,
            "summary": "Fine",
            "unixReviewTime": 1_300_000_000 // DAY_S * DAY_S + DAY_S * min(place, REVIEWS - 1),
            "reviewTime": "03 13, 2011",
        }
        for user in range(USERS)
        for place in range(REVIEWS + (user % 10 == 0))
    ]
    return sorted(found, key=lambda review: review["asin"])


def metadata() -> list[dict[str, Any]]:
    """Item 0 has only an id, item 1 no category; three items have no review."""
    names = list(CATEGORIES)
    items: list[dict[str, Any]] = [
        {
            "asin": asin(item),
            "title": f"Tom's \"Big\" Book, {{volume}} {item}: L'été\n\\",
            "price": 3.5,
            "related": {"also_bought": [asin(0), asin(999)]},
            "brand": None,
            "categories": [["Books", names[item % 3]], ["Kindle Store", "Other"]],
        }
        for item in range(1, ITEMS + 3)
    ]
    items[0] = {"title": "L'asin vient après", "asin": asin(1), "categories": [[]]}
    return items


def write_amazon(folder: Path, suffix: str = "") -> None:
    write_lines(folder / f"reviews_Books_5.json{suffix}", list(map(json.dumps, reviews())))
    write_lines(folder / f"meta_Books.json{suffix}", list(map(repr, metadata())))


def targets_by_user(events: Events, recipe: Recipe) -> dict[str, list[tuple[str, int, list[int]]]]:
    """User id -> part, time and catalogue rows of each of its targets."""
    found: dict[str, list[tuple[str, int, list[int]]]] = {}
    for part in PARTS:
        slates = find_slates(events, part, min_events=recipe.history.min_events, max_events=8)
        for user, begin, end in zip(slates.user, slates.begin, slates.end, strict=True):
            target = (part, int(events.ts_s[begin]), sorted(events.item[begin:end].tolist()))
            found.setdefault(events.user_ids[user], []).append(target)
    return found


CLICKS = 12


def behaviours() -> list[str]:
    """Clicks of each user, one per hour, the last at another time; then lines that are not clicks of these days."""
    lines = []
    for user in range(USERS):
        for place in range(CLICKS):
            item = (user + 7 * place) % ITEMS
            last_s = 3600 * (user + 1) if place == CLICKS - 1 else 0
            lines.append(f"{user},{item},{item % 4},pv,{START_S + 3600 * place + last_s}")
        lines.append(f"{user},{500 + user},9,buy,{START_S + 8 * DAY_S}")
    odd = [-2_134_949_234, START_S - 1, END_S, 2_122_867_355]
    return [*lines, *(f"1,600,9,pv,{ts_s}" for ts_s in odd), "1,3,2,cart,5", "1,3,2,fav,5"]


def write_taobao(folder: Path) -> None:
    write_lines(folder / "UserBehavior.csv", behaviours())
