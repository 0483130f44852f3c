"""Amazon Reviews 2023: small files in the official format, read with the shipped recipe; bad files are rejected."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.errors import EventsError
from builder.ingest.run import ingest, input_fingerprint
from builder.ingest.sources import SOURCES
from builder.recipe.recipe import Recipe, load_recipe
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from tests.builder.logs import write_lines

ITEMS, REVIEWS = 6, 60
START_MS = 1_549_866_158_332


def asin(item: int) -> str:
    return f"B{item:09}"


def gift_cards(folder: Path, **data: Any) -> Recipe:
    recipe = load_recipe("builder/recipes/experiments/amazon-gift-cards-llactr.toml")
    return replace(recipe, data=replace(recipe.data, path=str(folder), **data))


def reviews() -> list[dict[str, Any]]:
    """Three in five are of 5 stars, one of 3, one of 1; the newest first, as in no order of ours."""
    return [
        {
            "rating": [5.0, 5, 3.0, 1.0, 4.0][place % 5],
            "title": 'It\'s "great"',
            "text": "Two lines\nand a tab\t. Très bien",
            "images": [],
            "asin": f"C{place:09}",
            "parent_asin": asin(place % ITEMS),
            "user_id": f"AG{place % 7:026}",
            "timestamp": START_MS + 60_000 * place,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for place in reversed(range(REVIEWS))
    ]


def metadata() -> list[dict[str, Any]]:
    """The last item has no review; the first has only an id."""
    full: list[dict[str, Any]] = [
        {
            "main_category": "Gift Cards",
            "title": f'Card {item} "L\'été"',
            "average_rating": 4.6,
            "rating_number": 103,
            "features": ["Redeemable anywhere.", "No expiry"],
            "description": ["Long,", "in two parts"],
            "price": [10.0, 25, "from 14.99", None][item % 4],
            "images": [{"thumb": "https://x", "variant": "MAIN"}],
            "videos": [],
            "store": "Roblox",
            "categories": ["Gift Cards", f"Kind {item % 2}"],
            "details": {"Brand": "Roblox", "Package": {"kg": 1}},
            "parent_asin": asin(item),
            "bought_together": None,
        }
        for item in range(ITEMS + 1)
    ]
    bare: dict[str, Any] = {
        "main_category": None,
        "title": "",
        "price": None,
        "store": None,
        "categories": [],
    }
    full[0] |= bare | {"features": [], "description": [""], "average_rating": None}
    return full


def write(folder: Path, suffix: str = "", category: str = "Gift_Cards") -> None:
    write_lines(folder / f"{category}.jsonl{suffix}", list(map(json.dumps, reviews())))
    write_lines(folder / f"meta_{category}.jsonl{suffix}", list(map(json.dumps, metadata())))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("category", ["Gift_Cards", "Video_Games"])
def test_official_files_become_events(
    tmp_path: Path, suffix: str, category: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, suffix, category)

    with caplog.at_level(logging.INFO):
        events = ingest(gift_cards(tmp_path))

    assert (
        f"dropped {REVIEWS // 5} of {REVIEWS} events, with ratings between 2 and 4" in caplog.text
    )
    assert (len(events.item), events.num_users) == (REVIEWS * 4 // 5, 7)
    assert events.label.mean() == 0.75
    assert (events.ts_s.min(), events.ts_s.max()) == (1_549_866_158, 1_549_866_158 + 60 * 59)
    # The item without a review is not in the catalogue.
    assert sorted(events.vocabulary.items) == [asin(item) for item in range(ITEMS)]
    assert [field.name for field in events.schema.user_fields] == ["user"]
    rows = {item: row for row, item in enumerate(events.vocabulary.items, FIRST_KNOWN)}
    assert events.item_fields[rows[asin(0)], 1:-1].tolist() == [UNKNOWN] * 8


def test_item_columns_are_texts(tmp_path: Path) -> None:
    write(tmp_path)

    items = SOURCES["amazon-reviews-2023"].read(gift_cards(tmp_path)).items

    assert items is not None
    rows = {row["parent_asin"]: row for row in items.frame.iter_rows(named=True)}
    nothing = dict.fromkeys(items.frame.columns)
    assert rows[asin(0)] == nothing | {"parent_asin": asin(0), "rating_number": "103"}
    assert rows[asin(1)] == {
        "parent_asin": asin(1),
        "main_category": "Gift Cards",
        "title": 'Card 1 "L\'été"',
        "store": "Roblox",
        "price": "25",
        "average_rating": "4.6",
        "rating_number": "103",
        "categories": "Gift Cards > Kind 1",
        "category": "Kind 1",
        "features": "Redeemable anywhere. No expiry",
        "description": "Long, in two parts",
    }
    assert [rows[asin(item)]["price"] for item in range(2, 5)] == ["from 14.99", None, "10.0"]


def test_what_the_crawl_counted_is_no_field_of_the_recipe(tmp_path: Path) -> None:
    fields = gift_cards(tmp_path).data.item_fields

    assert not {"average_rating", "rating_number"} & set(fields)


def test_without_a_threshold_every_review_is_a_positive(tmp_path: Path) -> None:
    write(tmp_path)

    raw = SOURCES["amazon-reviews-2023"].read(
        gift_cards(tmp_path, positive_from=None, negative_to=None)
    )

    assert raw.columns.label is None


def test_input_fingerprint_sees_both_files(tmp_path: Path) -> None:
    write(tmp_path)
    seen = {input_fingerprint(gift_cards(tmp_path))}
    for name in ("Gift_Cards.jsonl", "meta_Gift_Cards.jsonl"):
        lines = (tmp_path / name).read_text().splitlines()
        write_lines(tmp_path / name, lines[:-1])
        seen.add(input_fingerprint(gift_cards(tmp_path)))

    assert len(seen) == 3


def test_reviews_are_those_of_the_metadatas_category(tmp_path: Path) -> None:
    write(tmp_path)
    write_lines(tmp_path / "Video_Games.jsonl", ["not JSON"])

    assert len(ingest(gift_cards(tmp_path)).item) == REVIEWS * 4 // 5


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("meta_Gift_Cards.jsonl", r"no file meta_\*\.jsonl\*.*amazon-reviews-2023\.github\.io"),
        ("Gift_Cards.jsonl", r"no file Gift_Cards\.jsonl\*.*amazon-reviews-2023\.github\.io"),
    ],
)
def test_absent_file_says_where_to_get_it(tmp_path: Path, gone: str, words: str) -> None:
    write(tmp_path)
    (tmp_path / gone).unlink()

    with pytest.raises(EventsError, match=words):
        ingest(gift_cards(tmp_path))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "meta_Video_Games.jsonl",
            r"got meta_Gift_Cards\.jsonl, meta_Video_Games\.jsonl, expected only one meta_",
        ),
        (
            "Gift_Cards.jsonl.gz",
            r"got Gift_Cards\.jsonl, Gift_Cards\.jsonl\.gz, expected only one Gift_Cards",
        ),
    ],
)
def test_several_files_are_refused(tmp_path: Path, name: str, words: str) -> None:
    write(tmp_path)
    write_lines(tmp_path / name, [])

    with pytest.raises(EventsError, match=words):
        ingest(gift_cards(tmp_path))


def test_metadata_that_know_no_item_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    others = [json.dumps({**item, "parent_asin": "x"}) for item in metadata()]
    write_lines(tmp_path / "meta_Gift_Cards.jsonl", others)

    with pytest.raises(EventsError, match=r"items: got none of the 6 items of Gift_Cards\.jsonl"):
        ingest(gift_cards(tmp_path))


def test_download_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ".gz")
    path = tmp_path / "Gift_Cards.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(EventsError, match=r"Gift_Cards\.jsonl\.gz: cannot be read"):
        ingest(gift_cards(tmp_path))


REVIEW, ITEM = json.dumps(reviews()[0]), json.dumps(metadata()[1])
WRONG = [
    ("Gift_Cards", "{'rating': 5}", "not JSON"),
    ("Gift_Cards", "[5]", r"got \[5\], expected an object of names and values"),
    ("Gift_Cards", REVIEW.replace("parent_asin", "parent"), "no column 'parent_asin'"),
    (
        "Gift_Cards",
        REVIEW.replace('"rating": 4.0', '"rating": "4"'),
        "'rating': got '4', expected a number",
    ),
    (
        "Gift_Cards",
        REVIEW.replace('"timestamp": 1', '"timestamp": 0.1'),
        "'timestamp': got .*a whole number",
    ),
    (
        "Gift_Cards",
        REVIEW.replace('"user_id": "', '"user_id": null, "u": "'),
        "'user_id': got None, expected a string",
    ),
    ("meta_Gift_Cards", "{'title': 'x'}", "not JSON"),
    (
        "meta_Gift_Cards",
        ITEM.replace('"store"', '"stor"'),
        "no column 'store'; did you mean 'stor'",
    ),
    (
        "meta_Gift_Cards",
        ITEM.replace('"Roblox"', "[1]", 1),
        r"'store': got \[1\], expected a string or null",
    ),
    ("meta_Gift_Cards", ITEM.replace('"price": 25', '"price": {}'), "'price': got {}"),
    (
        "meta_Gift_Cards",
        ITEM.replace('["Long,"', "[3"),
        r"'description': got \[3, .*expected a list of texts",
    ),
    ("meta_Gift_Cards", ITEM.replace('["Gift Cards"', '["Gift Cards", null'), "'categories': got"),
]


@pytest.mark.parametrize(("name", "line", "words"), WRONG, ids=[words for *_, words in WRONG])
def test_wrong_line_is_named_by_file_and_number(
    tmp_path: Path, name: str, line: str, words: str
) -> None:
    write(tmp_path)
    path = tmp_path / f"{name}.jsonl"
    write_lines(path, [path.read_text().splitlines()[0], line])

    with pytest.raises(EventsError, match=rf"/{name}\.jsonl, line 2: .*{words}"):
        ingest(gift_cards(tmp_path))
