"""Open Bandit: small files in the official layout and in its conversion; cohorts, items of campaigns, bad files."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.dataset.batches import find_slates
from builder.errors import EventsError
from builder.ingest.run import ingest, input_fingerprint
from builder.ingest.sources import SOURCES
from builder.ingest.sources.raw import RawLog
from builder.recipe.recipe import Recipe, load_recipe
from models.contract.schema import FIRST_KNOWN

START = datetime(2019, 11, 24, tzinfo=UTC)
ROWS = 40
FILES = [(policy, campaign) for policy in ("random", "bts") for campaign in ("all", "men")]
Frames = dict[tuple[str, str], pl.DataFrame]


def bandit(folder: Path) -> Recipe:
    recipe = load_recipe("builder/recipes/experiments/open-bandit-llactr.toml")
    return replace(recipe, data=replace(recipe.data, path=str(folder)))


def read(folder: Path) -> RawLog:
    return SOURCES["open-bandit"].read(bandit(folder))


def hashed(*parts: object) -> str:
    """A hash of 32 characters, as in the files."""
    return "-".join(map(str, parts)).ljust(32, "0")


def impressions() -> Frames:
    """Each policy shows three items of each campaign to three cohorts, which are the same for both policies."""
    frames = {}
    for place, (policy, campaign) in enumerate(FILES):
        number = range(ROWS)
        frames[policy, campaign] = pl.DataFrame(
            {
                "timestamp": [
                    str(START + timedelta(minutes=60 * i + place, microseconds=i % 2 * 34_762))
                    for i in number
                ],
                "item_id": [i % 3 for i in number],
                "position": [i % 3 + 1 for i in number],
                "click": [int(i % 4 == 0) for i in number],
                "propensity_score": [1 / 3] * ROWS,
                **{f"user_feature_{k}": [hashed("u", k, i % 3) for i in number] for k in range(4)},
                **{f"user-item_affinity_{item}": [0.0] * ROWS for item in range(3)},
            }
        )
    return frames


def contexts() -> Frames:
    """Features 1 to 3 are hashed differently for each policy and campaign; feature 0 is a number."""
    return {
        (policy, campaign): pl.DataFrame(
            {
                "item_id": [0, 1, 2],
                "item_feature_0": [-0.25, 0.5, 0.5],
                **{f"item_feature_{k}": [hashed(policy, campaign, k)] * 3 for k in range(1, 4)},
            }
        )
        for policy, campaign in FILES
    }


def write_official(folder: Path) -> None:
    """With an unnamed column of row numbers first, as the files have it."""
    for frames, name in ((impressions(), "{}.csv"), (contexts(), "item_context.csv")):
        for (policy, campaign), frame in frames.items():
            place = folder / policy / campaign
            place.mkdir(parents=True, exist_ok=True)
            frame.with_row_index("").write_csv(place / name.format(campaign))


def write_joined(folder: Path) -> None:
    """As a conversion to Parquet: all files joined into one, with typed columns."""
    for frames, name in ((impressions(), "impressions"), (contexts(), "item_context")):
        joined = [
            frame.drop(
                f"user-item_affinity_{item}" for item in range(3) if name == "impressions"
            ).with_columns(behavior_policy=pl.lit(policy), campaign=pl.lit(campaign))
            for (policy, campaign), frame in frames.items()
        ]
        table = pl.concat(joined)
        if name == "impressions":
            time = pl.col("timestamp").str.replace(r"(:\d\d)\+", "${1}.000000+")
            time = time.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_zone="UTC")
            table = table.with_columns(time, pl.col("item_id").cast(pl.Int16))
        table.write_parquet(folder / f"{name}.parquet")


LAYOUTS = {"official": write_official, "joined": write_joined}
each_layout = pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)


@each_layout
def test_files_become_events(tmp_path: Path, write: Any) -> None:
    write(tmp_path)

    events = ingest(bandit(tmp_path))

    assert (len(events.item), events.num_users) == (4 * ROWS, 3)
    assert events.label.mean() == 0.25
    assert events.has_impressions
    names = [f"{campaign}/{item}" for campaign in ("all", "men") for item in range(3)]
    assert sorted(events.vocabulary.items) == names
    assert events.ts_s.min() == int(START.timestamp())
    context = dict(events.vocabulary.context)
    assert context["position"] == ["1", "2", "3"]
    assert context["behavior_policy"] == ["bts", "random"]
    assert events.vocabulary.user["user_feature_1"] == [hashed("u", 1, i) for i in range(3)]
    assert events.item_values["item_feature_0"] == ["-0.25", "0.5"]


@each_layout
def test_position_is_that_of_each_impression(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    events = ingest(bandit(tmp_path))
    place = [field.name for field in events.schema.context_fields].index("position")

    slates = find_slates(events, "train", min_events=0, max_events=8)

    for begin, end in zip(slates.begin, slates.end, strict=True):
        items = np.array(events.vocabulary.items)[events.item[begin:end] - FIRST_KNOWN]
        positions = [int(item.split("/")[1]) + 1 for item in items]
        assert (events.context[begin:end, place] - FIRST_KNOWN + 1).tolist() == positions


@each_layout
def test_users_who_share_all_four_features_are_one_cohort(tmp_path: Path, write: Any) -> None:
    write(tmp_path)

    raw = read(tmp_path)

    assert raw.users is not None
    users, events = raw.users.frame, raw.events.frame
    assert users["user_id"].n_unique() == len(users) == 3
    # The same cohorts under both policies.
    by_policy = events.group_by("behavior_policy").agg(pl.col("user_id").n_unique())
    assert by_policy["user_id"].to_list() == [3, 3]
    assert users["user_id"].str.len_chars().to_list() == [16] * 3


def test_ids_of_cohorts_do_not_depend_on_the_rest_of_the_log(tmp_path: Path) -> None:
    write_official(tmp_path)
    before = read(tmp_path).users
    for policy in ("bts", "random"):
        path = tmp_path / policy / "men" / "men.csv"
        path.write_text("\n".join(path.read_text().splitlines()[:2]) + "\n")
    (tmp_path / "random" / "all" / "all.csv").unlink()
    (tmp_path / "bts" / "all" / "all.csv").unlink()

    after = read(tmp_path).users

    assert before is not None
    assert after is not None
    assert len(after.frame) == 1
    assert set(after.frame.iter_rows()) <= set(before.frame.iter_rows())


@each_layout
def test_item_features_are_those_of_the_random_policy(tmp_path: Path, write: Any) -> None:
    write(tmp_path)

    items = read(tmp_path).items

    assert items is not None
    rows = {row["item_id"]: row for row in items.frame.iter_rows(named=True)}
    assert len(rows) == len(items.frame) == 6
    for item, row in rows.items():
        campaign = item.split("/")[0]
        assert row["campaign"] == campaign
        assert row["item_feature_2"] == hashed("random", campaign, 2)


def test_without_the_random_policy_the_others_features_count(tmp_path: Path) -> None:
    write_official(tmp_path)
    (tmp_path / "random" / "men" / "men.csv").unlink()

    items = read(tmp_path).items

    assert items is not None
    found = dict(items.frame.select("item_id", "item_feature_1").iter_rows())
    assert found["men/0"] == hashed("bts", "men", 1)
    assert found["all/0"] == hashed("random", "all", 1)


def test_affinities_and_propensities_are_not_read(tmp_path: Path) -> None:
    write_official(tmp_path)

    columns = {
        "timestamp",
        "item_id",
        "position",
        "click",
        "behavior_policy",
        "campaign",
        "user_id",
    }
    assert set(read(tmp_path).events.frame.columns) == columns


def test_missing_feature_of_a_user_is_refused(tmp_path: Path) -> None:
    write_official(tmp_path)
    path = tmp_path / "bts" / "all" / "all.csv"
    path.write_text(path.read_text().replace(hashed("u", 2, 1), "", 1))

    with pytest.raises(EventsError, match=r"column 'user_id': got no value in 1 of 160 rows"):
        ingest(bandit(tmp_path))


def test_absent_files_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match=r"none of impressions\.parquet, .*research\.zozo\.com"):
        ingest(bandit(tmp_path))
    with pytest.raises(EventsError, match=r"nowhere: no such folder.*research\.zozo\.com"):
        ingest(bandit(tmp_path / "nowhere"))


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_events_without_their_items_are_refused(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    for path in [*tmp_path.rglob("item_context.*")][:1]:
        path.unlink()

    with pytest.raises(EventsError, match=r"item_context\.(csv|parquet): no such file"):
        ingest(bandit(tmp_path))


def test_missing_column_is_named(tmp_path: Path) -> None:
    write_official(tmp_path)
    path = tmp_path / "random" / "men" / "men.csv"
    path.write_text(path.read_text().replace("position", "place", 1))

    with pytest.raises(EventsError, match=r"men\.csv: no column 'position'"):
        ingest(bandit(tmp_path))


def test_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    write_joined(tmp_path)
    (tmp_path / "impressions.parquet").write_bytes(b"no")

    with pytest.raises(EventsError, match=r"impressions\.parquet: cannot be read"):
        ingest(bandit(tmp_path))


def test_input_fingerprint_sees_every_file(tmp_path: Path) -> None:
    write_official(tmp_path)
    seen = {input_fingerprint(bandit(tmp_path))}
    for path in sorted(tmp_path.rglob("*.csv")):
        path.write_text(path.read_text() + "\n")
        seen.add(input_fingerprint(bandit(tmp_path)))

    assert len(seen) == 9
