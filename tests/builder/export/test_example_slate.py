"""The example slate of an artifact is the whole pool of the log's latest request."""

from builder.export.example_slate import latest_slate
from models.contract.example_slate import ExampleSlate
from tests.builder.hand_made import Event, make_events, with_pools


def test_it_is_the_pool_of_the_latest_event_that_has_one() -> None:
    log = [[Event(10, 2), Event(350, 3)], [Event(30, 4), Event(380, 5), Event(390, 6)]]
    pools = [{4: 2, 5: 3}, {1: 2, 3: 1, 7: 4}, {8: 2}]
    events = with_pools(make_events(log), pools, [0, 2, -1, 1, -1])

    (name,) = events.vocabulary.candidate
    values = events.vocabulary.candidate[name]
    # Rows 0 and 1 are no items, and id 1 is a value that training has not seen.
    assert latest_slate(events) == ExampleSlate(["i3", "i7"], {name: [None, values[2]]})


def test_a_log_without_pools_has_none() -> None:
    assert latest_slate(make_events([[Event(10, 2)]])) is None
