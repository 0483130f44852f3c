"""The types of a request: timings of its stages."""

import pytest

from service.query import Stages, sum_of


def test_a_stage_takes_the_time_since_the_one_before_it_ended() -> None:
    stages = Stages(began=10.0, ended={"cache": 10.5, "score": 12.5})

    assert stages.seconds == {"cache": 0.5, "score": 2.0}
    assert stages.milliseconds() == {"cache": 500.0, "score": 2000.0, "total": 2500.0}


def test_times_of_several_requests_add_up_stage_by_stage() -> None:
    first = Stages(began=1.0, ended={"cache": 2.0, "score": 4.0})
    second = Stages(began=7.0, ended={"cache": 7.5, "agreement": 8.0})

    total = sum_of([first, second])

    assert list(total.seconds) == ["cache", "score", "agreement"]
    assert total.seconds == pytest.approx({"cache": 1.5, "score": 2.0, "agreement": 0.5})
    assert sum_of([]).seconds == {}
