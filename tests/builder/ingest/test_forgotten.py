"""An ingested log has nothing of a forgotten user: no event, no profile, no item that only this user touched."""

import polars as pl
import pytest

from builder.errors import EventsError
from builder.ingest.run import ingest_log
from builder.ingest.sources import SOURCES
from models.live.keys import tombstone
from models.live.tombstones import Tombstones
from tests.builder.logs import NOW_S, START_S, log_frame, small_recipe

ONLY_U1 = pl.DataFrame(
    {
        "user_id": ["u1"] * 3,
        "item_id": ["rare"] * 3,
        "timestamp": [START_S + 9000 + i for i in range(3)],
    }
)
PREFIX = pl.DataFrame(
    {
        "user_id": ["u12"] * 9,
        "item_id": ["i1", "i2", "i3"] * 3,
        "timestamp": [START_S + i for i in range(9)],
    }
)


def forgotten(*user_ids: str) -> Tombstones:
    return Tombstones({tombstone(user_id): 1 for user_id in user_ids})


def events_without(tmp_path, *user_ids: str, profiles: bool = False):
    pl.concat([log_frame(), ONLY_U1, PREFIX]).write_csv(tmp_path / "events.csv")
    data = {}
    if profiles:
        users = pl.DataFrame({"user_id": ["u0", "u1", "u2"], "town": ["Ulm", "Bonn", "Kiel"]})
        users.write_csv(tmp_path / "users.csv")
        data = {"users": "users.csv", "user_fields": ["town"]}
    recipe = small_recipe(tmp_path, data=data)
    raw = SOURCES["files"].read(recipe)
    return ingest_log(raw, recipe, NOW_S, tombstones=forgotten(*user_ids))


def test_a_forgotten_user_is_not_in_the_events(tmp_path):
    events = events_without(tmp_path, "u1", "never seen")

    assert events.user_ids == ["u0", "u12", "u2", "u3"]
    assert len(events.item) == 40 - 10 + 9
    assert "rare" not in events.vocabulary.items


def test_a_profile_of_a_forgotten_user_gives_no_value(tmp_path):
    assert "Bonn" in events_without(tmp_path, profiles=True).vocabulary.user["town"]
    assert events_without(tmp_path, "u1", profiles=True).vocabulary.user["town"] == ["Kiel", "Ulm"]


def test_a_log_of_forgotten_users_alone_is_an_error(tmp_path):
    with pytest.raises(EventsError, match="got only events of forgotten users"):
        events_without(tmp_path, "u0", "u1", "u12", "u2", "u3")
