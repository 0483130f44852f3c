"""Slates of several users in one run of the graph."""

import shutil
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.artifact import ENCODE, SCORE
from models.contract.calibration import CALIBRATION, Calibration, Isotonic, Temperature
from models.contract.errors import ArtifactError, ArtifactTamperedError
from service.runtime.engines.onnxruntime import right_aligned
from service.runtime.scorer import CandidateFields, Scorer, Slate
from service.scoring.compute import unless_error
from tests.service.toy import (
    VOCABULARY_OF_TOYS,
    Toy,
    listed_score_graph,
    outside_score_graph,
    slate_of,
)

SLATES = [(["i1"], ["i2", "i3"]), (["i9", "i4"], ["i5"]), ([], ["i7", "i7", "unknown", "i0"])]


def _slates(toy: Toy) -> list[Slate]:
    return [slate_of(toy, history, items) for history, items in SLATES]


def test_slates_of_several_lengths_score_together_as_each_does_alone(tmp_path: Path):
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path), 1)
    slates = _slates(toy)

    results = scorer.score_many(slates)

    for (history, items), result in zip(SLATES, results, strict=True):
        expected = toy.scores(toy.state(history), items, history, {"hour": "day"})
        assert not isinstance(result, Exception)
        scores, unknown, *_ = result
        assert scores.tolist() == pytest.approx(expected, abs=1e-6)
        assert unknown == [item for item in items if item == "unknown"]
    assert all(list(slate.ended) == ["queue", "decode", "score"] for slate in slates)


def test_a_slate_whose_score_is_not_finite_fails_alone(tmp_path: Path):
    logits = [0.0] * 32
    logits[int(VOCABULARY_OF_TOYS.item_rows(["i5"])[0])] = float("nan")
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path, score=listed_score_graph(logits)), 1)

    first, second, third = scorer.score_many(_slates(toy))

    assert not isinstance(first, Exception)
    assert first[0].tolist() == [0.5, 0.5]
    assert isinstance(second, ArtifactError)
    assert not isinstance(third, Exception)
    assert third[0].tolist() == [0.5] * 4


def test_an_artifact_that_cannot_score_unknown_items_does_not_load(tmp_path: Path):
    logits = [0.0] * 32
    logits[1] = float("nan")  # the row of unknown items, which also pads shorter slates
    artifact = Toy().save(tmp_path, score=listed_score_graph(logits))

    with pytest.raises(ArtifactError, match="not finite"):
        Scorer(artifact, 1)


def test_recent_items_of_the_request_replace_those_of_the_record(tmp_path: Path):
    toy = Toy()
    scorer = Scorer(toy.save(tmp_path), 1)
    state, context = toy.state(["i1"]), VOCABULARY_OF_TOYS.context_ids({})
    in_record = VOCABULARY_OF_TOYS.item_rows(["i4"])
    slates = [
        Slate(state, recent, in_record, context, ["i2"], {}, {}) for recent in (None, ["i9"], [])
    ]

    results = scorer.score_many(slates)

    expected = [toy.scores(state, ["i2"], recent) for recent in (["i4"], ["i9"], [])]
    for result, scores in zip(results, expected, strict=True):
        assert not isinstance(result, Exception)
        np.testing.assert_allclose(result[0], scores, atol=1e-6)


PLACED = Toy(candidate_names=("display", "mailer"))


def placed_slate(fields: CandidateFields, items: Sequence[str]) -> Slate:
    return replace(slate_of(PLACED, ["i1"], items), candidate_fields=fields)


def test_candidate_fields_change_the_scores_of_slates_that_score_together(tmp_path: Path):
    scorer = Scorer(PLACED.save(tmp_path), 1)
    fields: list[CandidateFields] = [
        {"display": ["front", "3"], "mailer": ["cover", None]},
        {"mailer": ["inside"]},
        {},
    ]
    items = [["i2", "i2"], ["i5"], ["i7", "i8", "i9"]]

    results = scorer.score_many(list(map(placed_slate, fields, items)))

    for given_fields, its_items, result in zip(fields, items, results, strict=True):
        assert not isinstance(result, Exception)
        state = PLACED.state(["i1"])
        expected = PLACED.scores(state, its_items, ["i1"], {"hour": "day"}, given_fields)
        assert result.scores.tolist() == pytest.approx(expected, abs=1e-6)
    first = unless_error(results[0]).scores
    assert abs(first[0] - first[1]) > 1e-3  # one item, two placements


def test_unknown_and_missing_values_of_candidate_fields_are_listed_once(tmp_path: Path):
    scorer = Scorer(PLACED.save(tmp_path), 1)
    slates = [
        placed_slate({"display": ["9", "front", "9", None], "mailer": ["cover"] * 4}, ["i2"] * 4),
        placed_slate({"display": ["front", "3"]}, ["i2", "i3"]),
        placed_slate({"display": ["aisle"], "mailer": ["none"]}, ["i2"]),
    ]

    unknown = [unless_error(result).unknown_fields for result in scorer.score_many(slates)]

    assert unknown == [{"display": ["9", None]}, {"mailer": [None]}, {}]


CALIBRATIONS = [Temperature(0.6, -1.0), Isotonic((-0.5, 0.0, 0.5), (-0.7, -0.6, 0.2))]


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=lambda one: one.kind)
def test_scores_are_calibrated_after_the_graph(tmp_path: Path, calibration: Calibration):
    toy = replace(Toy(), calibration=calibration)
    scorer, plain = Scorer(toy.save(tmp_path), 1), Scorer(Toy().save(tmp_path), 1)
    slates = _slates(toy)

    results = list(map(unless_error, scorer.score_many(slates)))

    for (history, items), result in zip(SLATES, results, strict=True):
        expected = toy.scores(toy.state(history), items, history, {"hour": "day"})
        assert result.scores.tolist() == pytest.approx(expected, abs=1e-6)
    uncalibrated = list(map(unless_error, plain.score_many(_slates(toy))))
    for result, raw in zip(results, uncalibrated, strict=True):
        assert np.abs(result.scores - raw.scores).max() > 0.01
        assert (np.argsort(result.scores) == np.argsort(raw.scores)).all()
    assert (scorer.calibration, plain.calibration) == (calibration.kind, "none")


def test_an_artifact_with_a_broken_calibration_does_not_load(tmp_path: Path):
    toy = replace(Toy(), calibration=Temperature(1.0, 0.0))
    object.__setattr__(toy.calibration, "scale", -1.0)

    with pytest.raises(ArtifactError, match=r"calibration.json: calibration: got scale -1.0"):
        Scorer(toy.save(tmp_path), 1)


@pytest.mark.parametrize("name", [ENCODE, SCORE, CALIBRATION])
def test_files_that_change_between_the_check_and_the_session_are_refused(tmp_path: Path, name: str):
    toys = [replace(Toy(seed=seed), calibration=Temperature(1.0 + seed, 0.0)) for seed in (0, 1)]
    verified, other = (toy.save(tmp_path) for toy in toys)
    shutil.copy(other.file(name), verified.file(name))

    with pytest.raises(ArtifactTamperedError, match=f"{name} has hash"):
        Scorer(verified, 1)


def test_an_open_scorer_keeps_the_graphs_that_were_verified(tmp_path: Path):
    toy = Toy()
    artifact = toy.save(tmp_path)
    scorer = Scorer(artifact, 1)
    for name in (ENCODE, SCORE):
        artifact.file(name).write_bytes(b"")

    results = list(map(unless_error, scorer.score_many(_slates(toy))))

    for (history, items), result in zip(SLATES, results, strict=True):
        expected = toy.scores(toy.state(history), items, history, {"hour": "day"})
        assert result.scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_an_open_scorer_does_not_keep_the_bytes_of_its_graphs(tmp_path: Path):
    logits = np.zeros(1 << 20, np.float32)
    artifact = Toy().save(tmp_path, score=listed_score_graph(logits))
    size = artifact.file(SCORE).stat().st_size
    assert size > logits.nbytes
    Scorer(artifact, 1)  # what a first session allocates once is not counted
    tracemalloc.start()
    try:
        scorer = Scorer(artifact, 1)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < size / 4
    assert size < peak < 1.5 * size  # one graph at a time, and once
    scorer.probe()


def test_a_graph_with_data_in_another_file_is_refused_though_the_runtime_would_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    graph = outside_score_graph()
    artifact = Toy().save(tmp_path / "artifacts", score=graph)
    np.arange(64, dtype=np.float32).tofile(tmp_path / "outside.bin")
    np.arange(64, dtype=np.float32).tofile(artifact.file("outside.bin"))
    monkeypatch.chdir(tmp_path)

    # ONNX Runtime looks beside a model that comes as bytes too: in the working directory.
    (logits,) = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(
        None, {"items": np.array([[5, 7]])}
    )
    assert logits.tolist() == [[5.0, 7.0]]
    with pytest.raises(ArtifactError, match=r"score\.onnx: tensor 'listed' keeps its data outside"):
        Scorer(artifact, 1)


@given(rows=st.lists(st.integers(2, 31), max_size=8), length=st.integers(0, 8))
def test_right_aligned_keeps_the_latest_and_pads_in_front(rows: list[int], length: int):
    aligned = right_aligned(np.array(rows, np.int64), length)
    kept = rows[len(rows) - min(len(rows), length) :]
    assert aligned.tolist() == [0] * (length - len(kept)) + kept
