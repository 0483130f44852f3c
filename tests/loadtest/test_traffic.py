import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.traffic import MAX_CANDIDATES, MIN_CANDIDATES, Sample, Traffic, Zipf

SAMPLE = Sample(
    model="lrea",
    users=[f"u{n}" for n in range(500)],
    items=[f"i{n}" for n in range(20_000)],
    context={"hour": ["7", "8"]},
    recent_length=32,
)


def test_zipf_draws_each_rank_in_proportion() -> None:
    ranks = Zipf(5, exponent=1.0).draw(np.random.default_rng(0), 200_000)
    share = np.bincount(ranks, minlength=5) / len(ranks)
    expected = np.array([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    np.testing.assert_allclose(share, expected / expected.sum(), atol=0.005)


def test_zipf_with_exponent_zero_is_uniform() -> None:
    ranks = Zipf(4, exponent=0.0).draw(np.random.default_rng(0), 100_000)
    np.testing.assert_allclose(np.bincount(ranks) / len(ranks), 0.25, atol=0.01)


def test_zipf_of_one_rank_draws_it() -> None:
    assert (Zipf(1, exponent=1.0).draw(np.random.default_rng(0), 100) == 0).all()


def test_requests_name_what_the_sample_holds() -> None:
    traffic = Traffic(SAMPLE, seed=0)
    for request in [traffic.request() for _ in range(200)]:
        assert request["model"] == "lrea"
        assert set(request["candidates"]) <= set(SAMPLE.items)
        assert len(set(request["candidates"])) == len(request["candidates"])
        assert MIN_CANDIDATES <= len(request["candidates"]) <= MAX_CANDIDATES
        assert request["context"]["hour"] in ("7", "8")
        assert 1 <= len(request.get("recent", ["-"])) <= SAMPLE.recent_length


def test_candidates_have_fields_where_the_model_has_them() -> None:
    fields = {"display": ["front", "aisle"], "mailer": ["A"]}
    traffic = Traffic(replace(SAMPLE, candidate_fields=fields), seed=0)
    candidates = [one for _ in range(20) for one in traffic.request()["candidates"]]
    assert all(set(one) == {"id", "fields"} and one["id"] in SAMPLE.items for one in candidates)
    assert {one["fields"]["display"] for one in candidates} == {"front", "aisle"}
    assert {one["fields"]["mailer"] for one in candidates} == {"A"}
    assert json.loads(traffic.bodies(1)[0])["candidates"][0].keys() == {"id", "fields"}


def test_slates_and_recents_vary() -> None:
    traffic = Traffic(SAMPLE, seed=0)
    requests = [traffic.request() for _ in range(1000)]
    sizes = np.array([len(request["candidates"]) for request in requests])
    assert np.median(sizes) == pytest.approx(200, rel=0.1)
    assert np.percentile(sizes, 95) > 3 * np.median(sizes)
    share_with_recent = np.mean(["recent" in request for request in requests])
    assert share_with_recent == pytest.approx(0.7, abs=0.05)


def test_few_users_send_most_requests() -> None:
    traffic = Traffic(SAMPLE, seed=0)
    users = [traffic.request()["user_id"] for _ in range(3000)]
    known, counts = np.unique([user for user in users if user in SAMPLE.users], return_counts=True)
    top = np.sort(counts)[::-1]
    assert top[:50].sum() > 0.6 * counts.sum()  # a tenth of the users; uniform would be 0.1
    assert len(known) > 250
    assert 0 < len(users) - counts.sum() < 0.05 * len(users)  # a few are new to the service


def test_the_same_seed_gives_the_same_bodies() -> None:
    assert Traffic(SAMPLE, seed=1).bodies(20) == Traffic(SAMPLE, seed=1).bodies(20)
    assert Traffic(SAMPLE, seed=1).bodies(20) != Traffic(SAMPLE, seed=2).bodies(20)


def test_a_small_catalogue_gives_short_slates_of_distinct_items() -> None:
    request = Traffic(replace(SAMPLE, items=["a", "b", "c"]), seed=0).request()
    assert sorted(request["candidates"]) == ["a", "b", "c"]


def test_a_sample_survives_its_file(tmp_path: Path) -> None:
    SAMPLE.save(tmp_path / "sample.json")
    assert Sample.load(tmp_path / "sample.json") == SAMPLE


@pytest.mark.parametrize("field", ["users", "items"])
def test_an_empty_sample_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=rf"\b0 {field}"):
        Sample(**{**vars(SAMPLE), field: []})
