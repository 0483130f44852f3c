"""The types of a request: timings of its stages."""

from service.query import Stages, sum_of, timings_ms


def test_a_stage_takes_the_time_since_the_one_before_it_ended() -> None:
    stages = Stages(began=10.0, ended={"cache": 10.5, "score": 12.5})

    assert stages.seconds() == {"cache": 0.5, "score": 2.0}
    assert list(stages.seconds()) == ["cache", "score"]


def test_times_of_several_requests_add_up_stage_by_stage() -> None:
    total = sum_of([{"cache": 1.0, "score": 2.0}, {"cache": 0.5, "agreement": 0.5}])

    assert list(total) == ["cache", "score", "agreement"]
    assert total == {"cache": 1.5, "score": 2.0, "agreement": 0.5}
    assert sum_of([]) == {}


def test_timings_are_milliseconds_and_have_their_sum() -> None:
    assert timings_ms({"cache": 0.0005, "score": 0.0020004}) == {
        "cache": 0.5,
        "score": 2.0,
        "total": 2.5,
    }
