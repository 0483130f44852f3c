"""Small files in Amazon's and Taobao's official formats, read with the shipped recipes: counts, split, bad files."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.dataset.batches import Part, find_slates
from builder.errors import EventsError
from builder.evaluate.report import evaluate
from builder.ingest.events import Events
from builder.ingest.run import ingest, input_fingerprint
from builder.ingest.sources import SOURCES
from builder.ingest.sources.taobao import END_S, START_S
from builder.recipe.models import ModelChoice
from builder.recipe.recipe import Recipe, load_recipe
from builder.train.train import train
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from tests.builder.logs import write_lines

PARTS: tuple[Part, ...] = ("train", "validate", "test")
USERS, ITEMS, REVIEWS = 80, 30, 9
DAY_S = 86_400
CATEGORIES = {"Mystery": 0, 'Children\'s "Best"': 1, "Romans à clef": 2}
MODELS = [
    ModelChoice(name, {"mlp": [8], "hidden": 4, "heads": 1, **config})
    for name, config in (
        ("lrea", {"slots": "hash", "rank": 8}),
        ("din", {}),
        ("din", {"long": False}),
    )
]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_amazon_files_become_events(tmp_path: Path, suffix: str) -> None:
    write_amazon(tmp_path, suffix)

    events = ingest(amazon(tmp_path))

    assert events.num_users == USERS
    assert len(events.item) == len(reviews()) == USERS * REVIEWS + USERS // 10
    assert sorted(events.vocabulary.items) == [asin(item) for item in range(ITEMS)]
    assert not events.has_impressions
    assert (events.schema.history_length, events.schema.recent_length) == (100, 10)
    assert [field.name for field in events.schema.item_fields] == ["item", "category", "popularity"]


def test_amazon_category_is_the_last_of_the_first_list(tmp_path: Path) -> None:
    write_amazon(tmp_path)

    raw = SOURCES["amazon-reviews"].read(amazon(tmp_path))
    events = ingest(amazon(tmp_path))

    assert raw.items is not None
    names = list(CATEGORIES)
    expected = {asin(item): names[item % 3] for item in range(2, ITEMS)} | {asin(1): None}
    assert dict(raw.items.frame["asin", "category"].iter_rows()) == expected
    rows = {item: row for row, item in enumerate(events.vocabulary.items, FIRST_KNOWN)}
    ids = {name: place for place, name in enumerate(sorted(CATEGORIES), FIRST_KNOWN)}
    found = {item: events.category[row] for item, row in rows.items()}
    unknown = {asin(0): UNKNOWN, asin(1): UNKNOWN}
    assert found == {asin(item): ids[names[item % 3]] for item in range(2, ITEMS)} | unknown


def test_of_amazon_only_these_columns_are_kept(tmp_path: Path) -> None:
    write_amazon(tmp_path)

    raw = SOURCES["amazon-reviews"].read(amazon(tmp_path))

    assert raw.events.frame.columns == ["reviewerID", "asin", "unixReviewTime"]
    assert raw.items is not None
    assert raw.items.frame.columns == ["asin", "title", "category"]


def test_amazon_users_have_their_last_day_as_their_only_target(tmp_path: Path) -> None:
    write_amazon(tmp_path)
    recipe = amazon(tmp_path)
    events = ingest(recipe)

    targets = targets_by_user(events, recipe)

    assert set(targets) == set(events.user_ids)
    assert {len(found) for found in targets.values()} == {1}
    last_s = int(events.ts_s.max())
    rows = {item: row for row, item in enumerate(events.vocabulary.items, FIRST_KNOWN)}
    for user in range(USERS):
        ((_, ts_s, items),) = targets[f"A{user:013}"]
        places = range(REVIEWS - 1, REVIEWS + (user % 10 == 0))
        assert ts_s == last_s
        assert items == sorted(rows[asin((user + 7 * place) % ITEMS)] for place in places)


def test_amazon_users_keep_their_part_when_the_file_is_in_another_order(tmp_path: Path) -> None:
    write_amazon(tmp_path)
    recipe = amazon(tmp_path)
    before = targets_by_user(ingest(recipe), recipe)

    lines = (tmp_path / "reviews_Books_5.json").read_text().splitlines()
    order = np.random.default_rng(0).permutation(len(lines))
    write_lines(tmp_path / "reviews_Books_5.json", [lines[place] for place in order])

    assert targets_by_user(ingest(recipe), recipe) == before
    assert {part for ((part, _, _),) in before.values()} == set(PARTS)


def test_amazon_users_with_less_history_than_the_recipe_asks_for_are_dropped(
    tmp_path: Path,
) -> None:
    write_amazon(tmp_path)
    few = [review for review in reviews() if review["reviewerID"] != f"A{3:013}"]
    own = [review for review in reviews() if review["reviewerID"] == f"A{3:013}"]
    lines = few + sorted(own, key=lambda review: review["unixReviewTime"])[:5]
    write_lines(tmp_path / "reviews_Books_5.json", list(map(json.dumps, lines)))
    recipe = amazon(tmp_path)

    events = ingest(recipe)

    assert load_recipe("builder/recipes/amazon-books.toml").history.min_events == 20
    assert set(events.user_ids) - set(targets_by_user(events, recipe)) == {f"A{3:013}"}


def test_input_fingerprint_sees_new_metadata(tmp_path: Path) -> None:
    write_amazon(tmp_path)
    before = input_fingerprint(amazon(tmp_path))

    write_lines(tmp_path / "meta_Books.json", list(map(repr, metadata()[:-1])))

    assert input_fingerprint(amazon(tmp_path)) != before


GOOD_REVIEW = json.dumps(reviews()[0])
BAD_REVIEWS = {
    "{'reviewerID': 'A'}": r"line 2: got text that is not JSON",
    GOOD_REVIEW[:-9]: r"line 2: got text that is not JSON",
    "": r"line 2: got text that is not JSON",
    "[1, 2]": r"line 2: got \[1, 2\], expected an object of names and values",
    GOOD_REVIEW.replace('"asin"', '"asim"'): r"line 2: no column 'asin'; did you mean 'asim'",
    GOOD_REVIEW.replace(
        '"0000000000"', "null"
    ): r"line 2: column 'asin': got None, expected a string",
    GOOD_REVIEW.replace(
        'Time": 1', 'Time": 0.1'
    ): r"line 2: column 'unixReviewTime': got 0\.1\d+, expected a whole",
}


@pytest.mark.parametrize("line", BAD_REVIEWS)
def test_malformed_amazon_review_is_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    write_amazon(tmp_path)
    write_lines(tmp_path / "reviews_Books_5.json", [GOOD_REVIEW, line, GOOD_REVIEW])

    with pytest.raises(EventsError, match=rf"reviews_Books_5\.json, {BAD_REVIEWS[line]}"):
        ingest(amazon(tmp_path))


BAD_METADATA = {
    '{"asin": null}': r"line 2: got text that is not a Python literal",
    "{'asin': open('x')}": r"line 2: got text that is not a Python literal",
    f"{{'asin': '{asin(2)}', 'title': 'Tom's'}}": r"line 2: got text that is not a Python literal",
    "['asin']": r"line 2: got \['asin'\], expected an object of names and values",
    "{'title': 'x'}": r"line 2: no column 'asin'; its columns are: title",
    f"{{'asin': '{asin(2)}', 'categories': 'Books'}}": r"line 2: column 'categories': got 'Books'",
    f"{{'asin': '{asin(2)}', 'categories': ['Books']}}": r"line 2: column 'categories'",
    f"{{'asin': '{asin(2)}', 'categories': [[3]]}}": r"line 2: column 'categories'",
}


@pytest.mark.parametrize("line", BAD_METADATA)
def test_malformed_amazon_metadata_is_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    write_amazon(tmp_path)
    write_lines(tmp_path / "meta_Books.json", [repr(metadata()[0]), line])

    with pytest.raises(EventsError, match=rf"meta_Books\.json, {BAD_METADATA[line]}"):
        ingest(amazon(tmp_path))


@pytest.mark.parametrize("name", ["reviews_Books_5.json", "meta_Books.json"])
def test_absent_amazon_file_says_where_to_get_it(tmp_path: Path, name: str) -> None:
    write_amazon(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(
        EventsError, match=rf"no file {name.split('_')[0]}_\*\.json\*.*cseweb\.ucsd"
    ):
        ingest(amazon(tmp_path))


@pytest.mark.parametrize(
    ("name", "words"), [("amazon-books", r"cseweb\.ucsd\.edu"), ("taobao", r"tianchi\.aliyun\.com")]
)
def test_absent_folder_says_where_to_get_the_files(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(EventsError, match=rf"nowhere: no such folder.*{words}"):
        ingest(shipped(name, tmp_path / "nowhere"))


def test_several_amazon_files_are_refused(tmp_path: Path) -> None:
    write_amazon(tmp_path)
    write_amazon(tmp_path, ".gz")

    words = r"got reviews_Books_5\.json, reviews_Books_5\.json\.gz, expected only one reviews_\*\.json\*"
    with pytest.raises(EventsError, match=words):
        ingest(amazon(tmp_path))


def test_metadata_of_another_category_are_refused(tmp_path: Path) -> None:
    write_amazon(tmp_path)
    others = [repr({**item, "asin": f"B{item['asin'][1:]}"}) for item in metadata()]
    write_lines(tmp_path / "meta_Books.json", others)

    with pytest.raises(
        EventsError, match=r"items: got none of the 30 items of reviews_Books_5\.json"
    ):
        ingest(amazon(tmp_path))


def test_download_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    write_amazon(tmp_path, ".gz")
    packed = tmp_path / "reviews_Books_5.json.gz"
    packed.write_bytes(packed.read_bytes()[:-20])

    with pytest.raises(EventsError, match=r"reviews_Books_5\.json\.gz: cannot be read"):
        ingest(amazon(tmp_path))


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


def test_taobao_clicks_of_the_nine_days_become_events(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_taobao(tmp_path)

    with caplog.at_level(logging.INFO):
        events = ingest(shipped("taobao", tmp_path))

    assert len(events.item) == USERS * CLICKS
    assert events.num_users == USERS
    assert sorted(map(int, events.vocabulary.items)) == list(range(ITEMS))
    assert (events.schema.history_length, events.schema.recent_length) == (564, 64)
    assert f"dropped 4 of {USERS * CLICKS + 4} clicks, with times outside 2017-11-25" in caplog.text


def test_taobao_days_are_those_of_its_users() -> None:
    china = timezone(timedelta(hours=8))

    assert datetime.fromtimestamp(START_S, china).isoformat() == "2017-11-25T00:00:00+08:00"
    assert datetime.fromtimestamp(END_S - 1, china).isoformat() == "2017-12-03T23:59:59+08:00"


def test_taobao_category_is_that_of_the_first_click(tmp_path: Path) -> None:
    later, first = f"7,5,8,pv,{START_S + 100}", f"8,5,6,pv,{START_S + 1}"
    write_lines(tmp_path / "UserBehavior.csv", [later, first, *behaviours()[:20]])

    raw = SOURCES["taobao"].read(shipped("taobao", tmp_path))

    assert raw.items is not None
    found = dict(raw.items.frame.iter_rows())
    assert found[5] == 6
    assert found[7] == 7 % 4


def test_taobao_targets_are_last_clicks_cut_at_their_quantiles(tmp_path: Path) -> None:
    write_taobao(tmp_path)
    recipe = shipped("taobao", tmp_path)

    targets = targets_by_user(ingest(recipe), recipe)

    for user in range(USERS):
        ((part, ts_s, items),) = targets[str(user)]
        assert ts_s == START_S + 3600 * (CLICKS + user)
        assert len(items) == 1
        assert part == ("train" if user < 48 else "validate" if user < 56 else "test")


BAD_BEHAVIOURS = {
    "1,2,3,pv": "line 2: columns: got 4, expected 5: user_id, item_id, category_id, behavior_type, timestamp",
    "": "line 2: columns: got 0, expected 5",
    f"1,2,3,pv,{START_S},9": "line 2: columns: got more, expected 5",
    f"1,2,3,pv,{START_S},9,9,9": "line 2: columns: got more, expected 5",
    "user_id,item_id,category_id,behavior_type,timestamp": "line 2: column 'user_id': got 'user_id', expected a whole",
    f"1,x2,3,pv,{START_S}": "line 2: column 'item_id': got 'x2', expected a whole number",
    f"1,2,,pv,{START_S}": "line 2: column 'category_id': got '', expected a whole number",
    f"1,2,3,view,{START_S}": "line 2: column 'behavior_type': got 'view', expected one of pv, buy, cart, fav",
    "1,2,3,buy,2017-11-25": "line 2: column 'timestamp': got '2017-11-25', expected a whole number",
}


@pytest.mark.parametrize("line", BAD_BEHAVIOURS)
def test_malformed_taobao_line_is_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    lines = behaviours()
    write_lines(tmp_path / "UserBehavior.csv", [lines[0], line, *lines[1:]])

    with pytest.raises(EventsError, match=rf"UserBehavior\.csv, {BAD_BEHAVIOURS[line]}"):
        ingest(shipped("taobao", tmp_path))


def test_absent_taobao_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match=r"UserBehavior\.csv: no such file; get it at .*tianchi"):
        ingest(shipped("taobao", tmp_path))


def test_empty_taobao_file_is_refused(tmp_path: Path) -> None:
    write_lines(tmp_path / "UserBehavior.csv", [])

    with pytest.raises(
        EventsError, match=r"UserBehavior\.csv: (cannot be read|events: got an empty table)"
    ):
        ingest(shipped("taobao", tmp_path))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.name}-{len(model.config)}")
@pytest.mark.parametrize("name", ["amazon-books", "taobao"])
def test_shipped_recipe_trains_and_evaluates(tmp_path: Path, name: str, model: ModelChoice) -> None:
    if name == "amazon-books":
        write_amazon(tmp_path)
        recipe = amazon(tmp_path)
    else:
        write_taobao(tmp_path)
        recipe = shipped(name, tmp_path)
    recipe = replace(recipe, model=model)
    events = ingest(recipe)

    checkpoint = train(events, recipe)
    report = evaluate(checkpoint, events, recipe)

    assert [line["step"] for line in checkpoint.history] == [1, 2]
    test = targets_by_user(events, recipe).values()
    positives = sum(len(items) for ((part, _, items),) in test if part == "test")
    assert (report.test.targets, report.test.positives) == (2 * positives, positives)
    assert 0 <= report.test.auc <= 1
    assert report.floor is not None


@pytest.mark.parametrize("name", ["amazon-books", "taobao"])
def test_shipped_variants_are_no_history_lrea_and_din(name: str) -> None:
    variants = load_recipe(f"builder/recipes/{name}.toml").variant

    assert [(v.model.name, v.model.config.get("long", True)) for v in variants] == [
        ("din", False),
        ("lrea", True),
        ("din", True),
    ]
