"""`absorb items` on a real cache, and what a publish removes."""

import json
from pathlib import Path

import polars as pl
import pytest

from builder.publish.cache import CacheClient
from builder.publish.new_items import drop_known
from models.contract.generation import MODELS_KEY, Generation, Pointer, pointer_key
from models.contract.prototypes import Prototypes
from models.live.new_items import NEW_ITEMS_KEY, NewItem, put_items, registered
from tests.builder.cli.conftest import Call
from tests.service.toy import AS_OF_S, Toy

TOY = Toy(prototypes=Prototypes({"kind": ["bread"], "maker": ["7"]}, [(2, 2), (2, 0)]))
BARE = Toy(seed=1)


def point(
    client: CacheClient,
    artifacts: Path,
    current: Toy,
    previous: Toy | None = None,
    model: str = "toy",
) -> None:
    """Make a toy serve."""
    ids = [toy.save(artifacts).artifact_id for toy in (current, previous) if toy]
    made = [
        Generation(model, f"20260101T000000Z-00000{n}", one, 0, AS_OF_S, AS_OF_S, "fp32")
        for n, one in enumerate(ids)
    ]
    client.sadd(MODELS_KEY, model)
    pointer = Pointer(made[0], made[1] if previous else None)
    client.set(pointer_key(model), pointer.to_bytes())


@pytest.fixture
def items(call: Call, server: Path, client: CacheClient, tmp_path: Path):
    """The command, on a cache with a toy that serves."""
    point(client, tmp_path / "artifacts", TOY)

    def run(*arguments: object):
        where = ("--cache", f"embedded:{server}", "--artifacts", tmp_path / "artifacts")
        return call("items", *arguments, *where)

    return run


def test_lines_of_json_are_registered_listed_and_removed(items, client, tmp_path):
    file = tmp_path / "new.jsonl"
    rows = [
        {"item_id": "n1", "fields": {"kind": "bread"}},
        {"item_id": 2, "fields": {"maker": 7, "kind": None}},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))

    assert items(file).out.strip() == "registered 2 items"
    listed = items().out
    assert items("--remove", "n1", "--remove", "n3").out.strip() == "removed 1 of 2"

    assert "n1  kind: bread" in listed
    assert "2  maker: 7" in listed
    assert "2 new items" in listed
    assert {one: dict(item.fields) for one, item in registered(client).items.items()} == {
        "2": {"maker": "7"}
    }


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_gives_the_columns_that_are_item_fields(items, client, tmp_path, suffix):
    file = tmp_path / f"new.{suffix}"
    frame = pl.DataFrame(
        {"sku": [10, 11], "maker": [7, None], "kind": ["bread", "wine"], "price": [1.5, 2.5]}
    )
    frame.write_csv(file) if suffix == "csv" else frame.write_parquet(file)

    assert items(file, "--item", "sku").out.strip() == "registered 2 items"

    found = {one: dict(item.fields) for one, item in registered(client).items.items()}
    assert found == {"10": {"kind": "bread", "maker": "7"}, "11": {"kind": "wine"}}


WRONG = {
    "a field that no model has": (
        '{"item_id": "n", "fields": {"makr": "7"}}',
        "did you mean 'maker'",
    ),
    "no fields": ('{"item_id": "n", "fields": {}}', "line 1: fields: got no value"),
    "no id": ('{"fields": {"kind": "bread"}}', "no column 'item_id'"),
    "no JSON": ("bread", "text that is not JSON"),
    "one item twice": (
        '{"item_id": "n", "fields": {"kind": "x"}}\n' * 2,
        "line 2: item_id: got 'n' again",
    ),
}


@pytest.mark.parametrize(("text", "error"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_whole(items, client, tmp_path, text, error):
    file = tmp_path / "new.jsonl"
    file.write_text(text)
    finished = items(file)
    assert finished.code == 1
    assert error in finished.err
    assert not client.exists(NEW_ITEMS_KEY)


def test_a_table_without_item_fields_is_refused(items, tmp_path):
    file = tmp_path / "new.csv"
    file.write_text("item_id,price\n1,2\n")
    finished = items(file)
    assert "item fields are: kind, maker" in finished.err
    assert items(tmp_path / "none.csv").code == 1


NEW = [NewItem(item, {"kind": "bread"}, 0) for item in ("i1", "i2", "n1")]
"""Two of them are items of every toy."""


def test_a_publish_removes_what_every_kept_generation_knows(client: CacheClient, tmp_path: Path):
    point(client, tmp_path, TOY, BARE)
    put_items(client, NEW)
    assert drop_known(client, tmp_path) == 2
    assert set(registered(client).items) == {"n1"}
    assert drop_known(client, tmp_path) == 0


@pytest.mark.parametrize("lost", ["current", "previous", "other"])
def test_without_every_artifact_nothing_is_removed(client: CacheClient, tmp_path: Path, lost: str):
    point(client, tmp_path, TOY, BARE)
    point(client, tmp_path, Toy(seed=2), model="other")
    place = {"current": TOY, "previous": BARE, "other": Toy(seed=2)}[lost].save(tmp_path).path
    place.rename(tmp_path / "lost")
    put_items(client, NEW)
    assert drop_known(client, tmp_path) == 0
    assert len(registered(client).items) == 3
