"""Windows: a function of the set of events, equal to a slow one that is written down another way."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.contract.schema import UNKNOWN
from models.live.history import BaseHistory
from models.live.window import window_of

CUT_S = 1_000
LENGTH = 6


@dataclass(frozen=True)
class Bought:
    event_id: str
    item_id: str
    ts_s: int


def rows_of(items):
    return np.array([UNKNOWN if item == "new" else int(item) for item in items], np.int64)


def base_of(events) -> BaseHistory:
    rows = np.array([row for _, row in events], np.int32)
    ts_s = np.array([ts_s for ts_s, _ in events], np.int64)
    return BaseHistory("ann", "0" * 32, CUT_S, np.zeros(0, np.int32), rows, ts_s)


def slow(base, live, length):
    """Events that only the stream brought are those beyond what the base has of the same row and second."""
    events = [(ts_s, 0, "", row) for ts_s, row in base]
    left = list(base)
    for event in sorted(live, key=lambda one: (one.ts_s, one.event_id)):
        row = int(rows_of([event.item_id])[0])
        if event.ts_s <= CUT_S and len(base) == length and event.ts_s <= base[0][0]:
            continue
        if event.ts_s <= CUT_S and (event.ts_s, row) in left:
            left.remove((event.ts_s, row))
            continue
        events.append((event.ts_s, 1, event.event_id, row))
    place = {id(event): at for at, event in enumerate(events)}
    events.sort(key=lambda event: (event[0], place[id(event)]))
    return [(ts_s, row) for ts_s, _, _, row in events][-length:]


times = st.integers(CUT_S - 4, CUT_S + 3)
base_events = st.lists(
    st.tuples(st.integers(CUT_S - 4, CUT_S - 1), st.integers(UNKNOWN, 4)), max_size=LENGTH
).map(lambda events: sorted(events, key=lambda event: event[0]))
live_events = st.lists(
    st.builds(
        Bought,
        st.text("ab", min_size=1, max_size=3),
        st.sampled_from("234") | st.just("new"),
        times,
    ),
    max_size=9,
    unique_by=lambda event: event.event_id,
)


@given(base_events, live_events, st.randoms())
def test_a_window_is_a_function_of_the_set(base, live, random):
    shuffled = list(live)
    random.shuffle(shuffled)

    got = window_of(base_of(base), shuffled, rows_of, 0, LENGTH)

    expected = slow(base, live, LENGTH)
    assert list(zip(got.ts_s.tolist(), got.rows.tolist(), strict=True)) == expected
    assert got.as_of_s == max([CUT_S, *(ts_s for ts_s, _ in expected)])
    again = window_of(base_of(base), live, rows_of, 0, LENGTH)
    np.testing.assert_array_equal(again.rows, got.rows)


def test_a_batch_that_knows_the_live_events_changes_nothing():
    """After the next build, the same events are in its base, and once only in the window."""
    live = [Bought("b", "3", CUT_S - 1), Bought("a", "3", CUT_S - 1), Bought("c", "2", CUT_S - 2)]
    base = [(CUT_S - 2, 2), (CUT_S - 1, 3), (CUT_S - 1, 3)]

    got = window_of(base_of(base), live, rows_of, 0, LENGTH)

    assert got.rows.tolist() == [2, 3, 3]
    assert got.num_live == 0


def test_a_user_without_a_base_has_the_live_events_alone():
    live = [Bought("b", "3", CUT_S + 9), Bought("a", "new", 5)]

    got = window_of(None, live, rows_of, CUT_S, LENGTH)

    assert got.rows.tolist() == [UNKNOWN, 3]
    assert (got.as_of_s, got.num_live) == (CUT_S + 9, 2)
    assert got.latest_rows(4).tolist() == [0, 0, UNKNOWN, 3]
    assert got.latest_rows(1).tolist() == [3]
    assert window_of(None, [], rows_of, 7, LENGTH).as_of_s == 7
