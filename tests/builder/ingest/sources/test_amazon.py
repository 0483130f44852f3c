"""Amazon's official files, read with the shipped recipe: counts, split, bad files."""

import json
from pathlib import Path

import numpy as np
import pytest

from builder.errors import EventsError
from builder.ingest.run import ingest, input_fingerprint
from builder.ingest.sources import SOURCES
from builder.recipe.recipe import load_recipe
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from tests.builder.ingest.sources.official import (
    CATEGORIES,
    ITEMS,
    PARTS,
    REVIEWS,
    USERS,
    amazon,
    asin,
    metadata,
    reviews,
    targets_by_user,
    write_amazon,
)
from tests.builder.logs import write_lines


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
