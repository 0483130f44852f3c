"""The scores of the service over HTTP equal those of torch's `forward`, for every model.

Each model is trained for a few steps, exported, precomputed and published to a real cache, which the service reads.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from builder.export.onnx import export
from builder.export.precompute import precompute, read_records, write_records
from builder.ingest.events import Events
from builder.publish.blue_green import publish
from builder.publish.cache import connect_cache
from builder.publish.generations import new_generation
from models.base import CtrModel
from models.batch import Context, Slate, User
from models.contract.age import age_buckets
from models.contract.artifact import Artifact
from models.contract.calibration import Temperature, calibration_to_dict
from models.contract.embedded_cache import start_server, stop_server
from models.contract.schema import PADDING, UNKNOWN
from models.contract.state_spec import RecordDtype
from tests.builds import Builds, with_placed_pools
from tests.cases import EXPORTED, Case
from tests.service.world import Running, World

pytestmark = pytest.mark.anyio
each_case = pytest.mark.parametrize("case", EXPORTED, ids=str)
LIMIT = 1e-4
PLACED = [Case("lrea", "hash"), Case("din", "counts"), Case("deep_fm", "enhanced")]
"""Cases that are also built from a log with candidate fields."""
USERS = (0, 7, 59)
SLATES = (["i3"], ["i5", "nobody sells this", "i5"], [f"i{n}" for n in range(120)])


@pytest.fixture(scope="module")
def cache_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    yield f"unix://{start_server(folder)}"
    stop_server(folder)
    shutil.rmtree(folder)


@dataclass(frozen=True)
class Served:
    """A published model: the service that serves it, and the model itself."""

    service: Running
    model: CtrModel
    events: Events

    def expected(
        self,
        user: int | None,
        candidates: Sequence[str],
        recent: Sequence[str] | None = None,
        context: Mapping[str, str] | None = None,
        placed: Mapping[str, Sequence[str | None]] | None = None,
    ) -> list[float]:
        """Torch's probabilities for a user of the log; None: for a user without profile and history."""
        schema, rows = self.events.schema, self.events.vocabulary.item_rows
        history, ages = self.clicked(user)
        profile = np.full(1, UNKNOWN) if user is None else self.events.user_fields[user]
        latest = history if recent is None else rows(recent)
        fields = self.events.vocabulary.context_ids(context or {})
        given = self.events.vocabulary.candidate_ids(placed or {}, len(candidates))
        with torch.inference_mode():
            logits = self.model(
                User(
                    aligned(history, schema.history_length),
                    aligned(ages, schema.history_length),
                    batch_of_one(profile),
                ),
                Context(aligned(latest, schema.recent_length), batch_of_one(fields)),
                Slate(batch_of_one(rows(candidates)), batch_of_one(given)),
            )
        probabilities: list[float] = logits[0].double().sigmoid().tolist()
        return probabilities

    def clicked(self, user: int | None) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Catalogue rows and age buckets of a user's positive events, oldest first."""
        events = self.events
        if user is None:
            return events.item[:0], events.ts_s[:0]
        own = np.arange(*events.offsets[user : user + 2])
        own = own[events.label[own] == 1]
        return events.item[own], age_buckets(events.as_of_s - events.ts_s[own])


def batch_of_one(values: NDArray[np.integer]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64))[None]


def aligned(rows: NDArray[np.integer], length: int) -> torch.Tensor:
    latest = rows[-length:]
    return batch_of_one(np.pad(latest, (length - len(latest), 0), constant_values=PADDING))


def publish_records(
    url: str, artifact: Artifact, events: Events, model: str, path: Path, dtype: RecordDtype
) -> None:
    """Precompute and publish, as the builder does."""
    written = write_records(precompute(artifact, events, threads=1), artifact, dtype, path)
    now = datetime(2026, 11, 22, tzinfo=UTC)
    generation = new_generation(
        model, artifact.artifact_id, written.users, events.as_of_s, dtype, now
    )
    with connect_cache(url) as client:
        client.flushall()
        records = read_records(path)
        publish(client, generation, records, artifact.manifest.state_spec)


def named(recent: list[str] | None) -> dict[str, list[str]]:
    return {} if recent is None else {"recent": recent}


@asynccontextmanager
async def serving(
    builds: Builds, case: Case, url: str, folder: Path, dtype: RecordDtype = "fp32"
) -> AsyncIterator[Served]:
    artifact = builds.artifact(case)
    publish_records(url, artifact, builds.events, str(case), folder / "records.bin", dtype)
    async with World(url, builds.artifacts).service() as service:
        yield Served(service, builds.checkpoint(case).build(), builds.events)


@each_case
async def test_scores_over_http_equal_torchs(
    builds: Builds, case: Case, cache_url: str, tmp_path: Path
):
    seen = []
    async with serving(builds, case, cache_url, tmp_path) as served:
        for user in USERS:
            for slate in SLATES:
                answer = await served.service.score(builds.events.user_ids[user], slate)
                assert answer["state"]["source"] == "hit"
                assert answer["model"] == str(case)
                assert answer["scores"] == pytest.approx(served.expected(user, slate), abs=LIMIT)
            seen.append(answer["scores"])
    # Scores must differ between users and between candidates, or else equality proves little.
    assert np.std(seen, axis=0).mean() > 10 * LIMIT
    assert np.std(seen, axis=1).min() > 10 * LIMIT


@each_case
async def test_recent_events_and_context_of_the_request_are_used_as_in_torch(
    builds: Builds, case: Case, cache_url: str, tmp_path: Path
):
    slate = SLATES[-1]
    many = [f"i{n}" for n in range(20, 50)]
    recents: tuple[list[str] | None, ...] = (None, [], ["i9"], ["i1", "no such item", "i2"], many)
    contexts: tuple[dict[str, str], ...] = ({}, {"hour": "13"}, {"hour": "no such hour"})
    answers = []
    async with serving(builds, case, cache_url, tmp_path) as served:
        num_recents = len(recents) if served.model.reads_history else 1
        for user in USERS[:2]:
            for recent in recents:
                for context in contexts:
                    answer = await served.service.score(
                        builds.events.user_ids[user], slate, context=context, **named(recent)
                    )
                    expected = served.expected(user, slate, recent, context)
                    assert answer["scores"] == pytest.approx(expected, abs=LIMIT)
                    answers.append(tuple(answer["scores"]))
    # An unknown hour scores like no hour; every other difference changes the scores.
    assert len(set(answers)) == 2 * num_recents * (len(contexts) - 1)


@each_case
async def test_an_unknown_user_is_scored_as_a_user_without_history(
    builds: Builds, case: Case, cache_url: str, tmp_path: Path
):
    async with serving(builds, case, cache_url, tmp_path) as served:
        for recent in (None, ["i4", "i5"]):
            for slate in SLATES:
                answer = await served.service.score("a stranger", slate, **named(recent))
                assert (answer["state"]["source"], answer["degraded"]) == ("miss", True)
                expected = served.expected(None, slate, recent)
                assert answer["scores"] == pytest.approx(expected, abs=LIMIT)


async def test_a_ranking_has_torchs_order(builds: Builds, cache_url: str, tmp_path: Path):
    """With one model: the ranking sorts scores, whichever model they are from."""
    slate, case = SLATES[-1], EXPORTED[0]
    async with serving(builds, case, cache_url, tmp_path) as served:
        answer = await served.service.score(builds.events.user_ids[3], slate, top_k=10)
        expected = dict(zip(slate, served.expected(3, slate), strict=True))
    ranked = answer["ranked"]
    assert [entry["score"] for entry in ranked] == pytest.approx(
        [expected[entry["item"]] for entry in ranked], abs=LIMIT
    )
    best = sorted(expected.values(), reverse=True)[:10]
    assert [entry["score"] for entry in ranked] == pytest.approx(best, abs=LIMIT)


async def test_scores_are_calibrated_as_the_builder_chose(
    builds: Builds, cache_url: str, tmp_path: Path
):
    """With one model: the calibration comes after the graph, whichever it is."""
    case, calibration = EXPORTED[0], Temperature(0.7, -0.4)
    artifact = export(
        builds.checkpoint(case),
        {"calibration": {"kind": "temperature", "kept": calibration_to_dict(calibration)}},
        builds.recipe(case).to_dict(),
        builds.events,
        builds.batch(case),
        builds.artifacts,
    )
    assert artifact.calibration() == calibration
    publish_records(cache_url, artifact, builds.events, str(case), tmp_path / "r.bin", "fp32")
    async with World(cache_url, builds.artifacts).service() as service:
        served = Served(service, builds.checkpoint(case).build(), builds.events)
        answer = await service.score(builds.events.user_ids[3], SLATES[-1])
    p = np.array(served.expected(3, SLATES[-1]))
    calibrated = 1 / (1 + np.exp(-calibration.log_odds(np.log(p / (1 - p)))))
    assert answer["scores"] == pytest.approx(calibrated, abs=LIMIT)
    assert np.abs(calibrated - p).max() > 100 * LIMIT


@each_case
@pytest.mark.parametrize(("dtype", "bound"), [("fp16", 2e-3), ("int8", 3e-2)])
async def test_smaller_records_score_within_their_bound(
    builds: Builds, case: Case, cache_url: str, tmp_path: Path, dtype: RecordDtype, bound: float
):
    """The bounds are those of `tests/models/test_models.py`; here histories are whole."""
    slate = SLATES[-1]
    async with serving(builds, case, cache_url, tmp_path, dtype) as served:
        for user in USERS:
            answer = await served.service.score(builds.events.user_ids[user], slate)
            assert answer["scores"] == pytest.approx(served.expected(user, slate), abs=bound)


@pytest.fixture(scope="module")
def placed_builds(builds: Builds) -> Builds:
    """Builds from a log with candidate fields."""
    return Builds(builds.artifacts.with_name("placed"), with_placed_pools(builds.events))


@pytest.mark.parametrize("case", PLACED, ids=str)
async def test_candidate_fields_over_every_door_are_those_of_torch(
    placed_builds: Builds, case: Case, cache_url: str, tmp_path: Path
):
    slate = [f"i{n}" for n in range(40)] + ["nobody sells this"] + ["i3"] * 4
    columns: dict[str, list[str | None]] = {
        "display": [("front", "aisle", "3", "no such place")[at % 4] for at in range(len(slate))],
        "mailer": [("cover", None, "inside")[at % 3] for at in range(len(slate))],
    }
    candidates = [
        {"id": item, "fields": {name: values[at] for name, values in columns.items()}}
        for at, item in enumerate(slate)
    ]
    display = [value or "" for value in columns["display"]]
    async with serving(placed_builds, case, cache_url, tmp_path) as served:
        for user in USERS:
            user_id = placed_builds.events.user_ids[user]
            placed = await served.service.score(user_id, candidates)
            plain = await served.service.score(user_id, slate)
            over_v2 = await served.service.client.post(
                f"/v2/models/{case}/infer",
                json={"inputs": [_texts(*one) for one in [
                    ("user_id", [user_id]), ("candidates", slate), ("display", display),
                ]]},
            )  # fmt: skip
            both = served.expected(user, slate, placed=columns)
            one = served.expected(user, slate, placed={"display": display})
            assert placed["scores"] == pytest.approx(both, abs=LIMIT)
            assert plain["scores"] == pytest.approx(served.expected(user, slate), abs=LIMIT)
            assert over_v2.json()["outputs"][0]["data"] == pytest.approx(one, abs=LIMIT)
            unknown = {"display": ["no such place"], "mailer": [None]}
            assert placed["unknown_candidate_fields"] == unknown
            # One item in four placements: the scores must differ, or else equality proves little.
            assert np.std(placed["scores"][-4:]) > LIMIT


def _texts(name: str, values: list[str]) -> dict[str, object]:
    return {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": values}
