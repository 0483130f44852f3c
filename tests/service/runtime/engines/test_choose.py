"""Which engine scores an artifact; and that one whose scores are wrong never does."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from models.contract.errors import ArtifactTamperedError
from service.runtime.engines import choose
from service.runtime.engines.engine import Limits, UnfitError
from service.runtime.scorer import Scorer
from service.scoring.compute import unless_error
from service.settings import Settings
from tests.service.runtime.engines import toy_engine
from tests.service.runtime.engines.toy_engine import FAULT, Fault
from tests.service.toy import Toy, listed_score_graph, slate_of
from tests.service.world import World

TOY = Toy()
ITEMS = ["i5", "i7", "unknown", "i29"]
EXPECTED = TOY.scores(TOY.state(["i1"]), ITEMS, ["i1"], {"hour": "day"})


@pytest.fixture(autouse=True)
def only_toy_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One line in the table is all that a further engine needs."""
    monkeypatch.setattr(choose, "ENGINES", {toy_engine.NAME: toy_engine.MODULE})
    vars(FAULT).update(vars(Fault()))
    yield
    vars(FAULT).update(vars(Fault()))


def scores(scorer: Scorer) -> list[float]:
    (result,) = scorer.score_many([slate_of(TOY, ["i1"], ITEMS)])
    return [float(p) for p in unless_error(result).scores]


def chosen(scorer: Scorer) -> tuple[str, str]:
    return scorer.choice.engine.name, scorer.choice.reason


def test_the_setting_names_every_engine_of_the_table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    names = get_args(Settings.model_fields["engine"].annotation)
    assert set(names) == {choose.AUTO, choose.ONNXRUNTIME, *choose.ENGINES}


@pytest.mark.parametrize(("wanted", "reason"), [("auto", "fits"), ("native", "named")])
def test_the_first_engine_that_fits_scores(tmp_path: Path, wanted: str, reason: str):
    scorer = Scorer(TOY.save(tmp_path), 1, wanted)
    num_calls = FAULT.num_calls

    assert scores(scorer) == pytest.approx(EXPECTED, abs=1e-6)
    assert FAULT.num_calls == num_calls + 1
    assert chosen(scorer) == ("native", reason)
    assert not scorer.choice.refused


def test_candidate_fields_are_part_of_the_comparison(tmp_path: Path):
    toy = Toy(candidate_names=("display", "mailer"))
    assert chosen(Scorer(toy.save(tmp_path), 1)) == ("native", "fits")


def test_onnxruntime_scores_if_it_is_named(tmp_path: Path):
    scorer = Scorer(TOY.save(tmp_path), 1, "onnxruntime")

    assert scores(scorer) == pytest.approx(EXPECTED, abs=1e-6)
    assert chosen(scorer) == ("onnxruntime", "named")
    assert FAULT.num_calls == 0


def test_small_differences_pass(tmp_path: Path):
    FAULT.shift = 1e-4  # a quarter of it at most is the probability's difference
    assert chosen(Scorer(TOY.save(tmp_path), 1)) == ("native", "fits")


@pytest.mark.parametrize("wanted", ["auto", "native"])
@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        ({"shift": 1e-3}, "differs", "a probability differs by 0.00025 from ONNX Runtime's"),
        ({"nan_item": 31}, "not finite", "the engine gave a logit that is not finite"),
        ({"nan_item": 1}, "not finite", "the engine gave a logit that is not finite"),
        ({"error": RuntimeError("no")}, "failed", "scoring failed: no"),
        ({"refused": UnfitError("no plan", "artifact: has none")}, "no plan", "has none"),
        ({"refused": OSError("wrong ELF class")}, "failed", "OSError: wrong ELF class"),
        ({"refused": ModuleNotFoundError("No module 'x'")}, "not installed", "No module 'x'"),
        ({"refused": ArtifactTamperedError("plan", "a", "b")}, "plan", "plan has hash b"),
    ],
)
def test_an_engine_that_is_wrong_does_not_score(
    tmp_path: Path,
    wanted: str,
    fault: dict[str, object],
    reason: str,
    detail: str,
    caplog: pytest.LogCaptureFixture,
):
    vars(FAULT).update(fault)
    caplog.set_level(logging.INFO)
    scorer = Scorer(TOY.save(tmp_path), 1, wanted)

    assert scores(scorer) == pytest.approx(EXPECTED, abs=1e-6)
    assert chosen(scorer) == ("onnxruntime", f"native: {reason}")
    assert detail in scorer.choice.refused["native"]
    (line,) = (one for one in caplog.records if getattr(one, "engine", None) == "native")
    is_quiet = wanted == "auto" and reason in ("no plan", "not installed")
    assert line.levelname == ("INFO" if is_quiet else "WARNING")
    assert FAULT.closed == int("refused" not in fault)


def test_an_engine_of_a_module_that_is_missing_does_not_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(choose, "ENGINES", {"native": "service.runtime.engines.none"})
    scorer = Scorer(TOY.save(tmp_path), 1)
    assert chosen(scorer) == ("onnxruntime", "native: not installed")


def test_a_model_that_onnxruntime_cannot_score_everywhere_keeps_its_engine(tmp_path: Path):
    """A second engine cannot be compared where the graph fails."""
    graph = listed_score_graph([0.0] * 20)  # fails for the catalogue's last rows
    scorer = Scorer(TOY.save(tmp_path, score=graph), 1)
    assert chosen(scorer) == ("onnxruntime", "native: failed")
    assert "nothing to compare with" in scorer.choice.refused["native"]


def test_a_score_of_onnxruntime_that_is_not_finite_is_no_agreement(tmp_path: Path):
    graph = listed_score_graph([0.0] * 31 + [float("nan")])
    scorer = Scorer(TOY.save(tmp_path, score=graph), 1)
    assert chosen(scorer) == ("onnxruntime", "native: not finite")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"error": RuntimeError("lost")}, "error"),
        ({"nan_item": 7}, "not finite"),
        ({"limits": Limits(candidates=3)}, "limits"),
    ],
)
def test_onnxruntime_scores_what_the_engine_cannot(
    tmp_path: Path, fault: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
):
    fallbacks: list[tuple[str, str]] = []
    vars(FAULT).update(limits=fault.get("limits", Limits()))
    scorer = Scorer(TOY.save(tmp_path), 1, on_fallback=lambda *labels: fallbacks.append(labels))
    assert chosen(scorer) == ("native", "fits")
    fallbacks.clear()
    vars(FAULT).update(fault)
    FAULT.nan_item = None if "nan_item" not in fault else 9  # the row of i7
    caplog.clear()

    for _ in range(2):
        assert scores(scorer) == pytest.approx(EXPECTED, abs=1e-6)

    assert fallbacks == [("native", reason)] * 2
    lines = [one for one in caplog.records if getattr(one, "reason", None) == reason]
    assert len(lines) == (0 if reason == "limits" else 1)
    vars(FAULT).update(vars(Fault()))
    assert scores(scorer) == pytest.approx(EXPECTED, abs=1e-6)
    assert len(fallbacks) == (3 if reason == "limits" else 2)


def test_only_the_slate_that_fails_is_scored_again(tmp_path: Path):
    fallbacks: list[tuple[str, str]] = []
    FAULT.limits = Limits(slates=2)
    scorer = Scorer(TOY.save(tmp_path), 1, on_fallback=lambda *labels: fallbacks.append(labels))
    FAULT.nan_item, num_calls = 9, FAULT.num_calls
    slates = [slate_of(TOY, ["i1"], items) for items in (["i5"], ["i7"], ["i5", "i9"])]

    results = [unless_error(result).scores for result in scorer.score_many(slates)]

    for slate, got in zip(slates, results, strict=True):
        expected = TOY.scores(TOY.state(["i1"]), slate.candidates, ["i1"], {"hour": "day"})
        np.testing.assert_allclose(got, expected, atol=1e-6)
    assert fallbacks == [("native", "not finite")]
    assert FAULT.num_calls == num_calls + 2  # two slates, then one


def test_without_its_artifact_a_failing_engine_is_an_error_of_the_slate(tmp_path: Path):
    artifact = TOY.save(tmp_path)
    scorer = Scorer(artifact, 1)
    artifact.file("score.onnx").unlink()
    FAULT.error = RuntimeError("lost")

    (result,) = scorer.score_many([slate_of(TOY, ["i1"], ITEMS)])

    assert isinstance(result, Exception)
    assert "the graph failed" in str(result)


@pytest.mark.anyio
async def test_the_service_shows_what_scores_and_why(world: World):
    world.publish(TOY)
    world.publish(Toy(seed=1), "other")
    async with world.service() as service:
        models = (await service.client.get("/v1/models")).json()["models"]
        config = (await service.client.get("/v2/models/toy/config")).json()
        assert [model["engine"] for model in models] == [
            {"name": "native", "device": "cpu", "reason": "fits", "refused": {}}
        ] * 2
        engine, device = (config["parameters"][name] for name in ("engine", "device"))
        assert (engine, device) == ({"string_value": "native"}, {"string_value": "cpu"})
        labels = {"model": "toy", "engine": "native", "device": "cpu", "reason": "fits"}
        assert service.metric("absorb_engine_info", **labels) == 1

        FAULT.error = RuntimeError("lost")
        assert (await service.score(candidates=ITEMS, model="toy"))["scores"]
        fallback = {"model": "toy", "engine": "native", "reason": "error"}
        assert service.metric("absorb_engine_fallbacks_total", **fallback) == 1

        FAULT.shift, FAULT.error = 0.1, None  # seen only by engines that are opened from now on
        world.publish(replace(TOY, seed=2))
        await service.follower.poll()
        assert service.metric("absorb_engine_info", **labels) == 0
        labels |= {"engine": "onnxruntime", "reason": "native: differs"}
        assert service.metric("absorb_engine_info", **labels) == 1
        await service.follower.unload("toy", "by a test")
        assert service.metric("absorb_engine_info", **labels) == 0


@pytest.mark.anyio
async def test_an_engine_named_by_the_setting_that_does_not_fit_is_replaced(world: World):
    FAULT.refused = UnfitError("no library", "no compiled library")
    world.publish(TOY)
    async with world.service(engine="native") as service:
        (model,) = (await service.client.get("/v1/models")).json()["models"]
        assert model["engine"] == {
            "name": "onnxruntime",
            "device": "cpu",
            "reason": "native: no library",
            "refused": {"native": "no compiled library"},
        }
        answer = await service.score(candidates=ITEMS)
        assert answer["unknown_candidates"] == ["unknown"]
