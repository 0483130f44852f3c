"""Taobao's official file, read with the shipped recipe: counts, split, bad files."""

import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from builder.errors import EventsError
from builder.ingest.run import ingest
from builder.ingest.sources import SOURCES
from builder.ingest.sources.taobao import END_S, START_S
from tests.builder.ingest.sources.official import (
    CLICKS,
    ITEMS,
    USERS,
    behaviours,
    shipped,
    targets_by_user,
    write_taobao,
)
from tests.builder.logs import write_lines


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
