"""A service that is started before its cache, and before anything is published."""

import httpx

from tests.e2e.builders import finish
from tests.e2e.deadline import wait_until
from tests.e2e.expected import assert_of_one_generation
from tests.e2e.services import is_ready, service_process
from tests.e2e.traffic import Traffic

FEW = 20


def test_a_service_that_came_first_becomes_ready_by_itself(first, cache, tmp_path):
    build = first.copy(tmp_path, cache.url)
    cache.stop()
    with (
        service_process(cache.url, build.artifacts, tmp_path / "service.log") as url,
        Traffic(url, first.asks()) as traffic,
    ):
        traffic.wait_for(FEW, lambda answer: answer.status == 503, "refusals without a cache")
        assert httpx.get(f"{url}/health/live").status_code == 200
        assert not is_ready(url)
        cache.start()
        traffic.wait_for(
            FEW, lambda answer: "no generation" in answer.body.get("error", ""),
            "refusals for want of a generation",
        )  # fmt: skip
        assert not is_ready(url)
        finish(build.run())
        traffic.wait_for(FEW, lambda answer: answer.source == "hit", "hits")
        wait_until(lambda: is_ready(url), "the service to be ready")

    refused = [answer for answer in traffic.answers if answer.status == 503]
    scored = traffic.answers[len(refused) :]
    for answer in refused:
        assert answer.body.keys() == {"error"}
        assert answer.body["error"].startswith("not ready: ")
        assert int(answer.headers["retry-after"]) > 0
    assert any(cache.url in answer.body["error"] for answer in refused)
    assert_of_one_generation(scored, {cache.serving().name: first.expected})
