"""What the gate compares, and what its checks say. Planted models: `tests/builder/experiments/gate_trial`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builder.errors import StepError
from builder.gate.compare import Served, compare
from builder.gate.inputs import inputs_of
from builder.gate.metrics import Difference, Measured, Quality
from builder.gate.page import STEPS, page_lines
from builder.gate.rankings import Rankings
from builder.gate.report import GateReport
from builder.gate.scoring import ArtifactScorer
from builder.recipe.gate import GateRule
from builder.recipe.recipe import Recipe
from models.contract.artifact import Artifact
from models.live.keys import shown_user
from tests.builder.gate.trainings import Trainings


def gate(trainings: Trainings, new: Artifact, old: Artifact | None = None) -> GateReport:
    """The gate's report on a new model, where the good one (or `old`) serves."""
    serving = Served(trainings.good if old is None else old)
    return compare(serving, Served(new), trainings.events, trainings.recipe)


def measured_of(report: GateReport) -> Measured:
    assert report.measured is not None
    return report.measured


def old_of(report: GateReport) -> Quality:
    old = measured_of(report).old
    assert old is not None
    return old


def worse(difference: Difference | None) -> float:
    assert difference is not None
    return difference.value


def rankings_of(report: GateReport) -> Rankings:
    assert report.rankings is not None
    return report.rankings


def failed(report: GateReport) -> set[str]:
    return {check.name for check in report.failures}


def test_a_model_compared_with_itself_differs_in_nothing(trainings: Trainings) -> None:
    report = gate(trainings, trainings.good)

    assert report.verdict == "passed"
    measured, rankings = measured_of(report), rankings_of(report)
    assert worse(measured.log_loss) == worse(measured.gauc) == 0
    assert (rankings.mean, rankings.top_overlap) == (0, 1)


def test_metrics_are_those_of_the_evaluation(trainings: Trainings) -> None:
    report = gate(trainings, trainings.good)
    old = old_of(report)

    reported = trainings.good.manifest.report["test"]
    assert old.log_loss == pytest.approx(reported["log_loss"], rel=1e-5)
    assert old.gauc == pytest.approx(reported["gauc"], abs=1e-3)
    assert old.pcoc == pytest.approx(reported["pcoc"], rel=1e-5)
    assert measured_of(report).targets == reported["targets"]


def test_the_same_recipe_with_another_seed_passes(trainings: Trainings) -> None:
    assert failed(gate(trainings, trainings.retrained)) == set()
    assert failed(gate(trainings, trainings.good, old=trainings.retrained)) == set()


def test_constant_scores_are_refused_with_and_without_a_serving_model(trainings) -> None:
    alone = compare(None, Served(trainings.constant), trainings.events, trainings.recipe)

    assert failed(gate(trainings, trainings.constant)) >= {"different scores", "GAUC", "log loss"}
    assert alone.verdict == "refused"
    assert failed(alone) == {"different scores"}


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_model_that_is_off_by_a_factor_of_two_is_refused(trainings, factor: float) -> None:
    bad = trainings.miscalibrated(factor)

    assert "calibration" in failed(gate(trainings, bad))
    assert not failed(gate(trainings, trainings.good, old=bad)) & {"calibration", "log loss"}


def test_an_untrained_model_is_refused(trainings: Trainings) -> None:
    assert failed(gate(trainings, trainings.untrained)) >= {"log loss", "GAUC"}


def test_a_first_model_is_checked_alone(trainings: Trainings) -> None:
    report = compare(None, Served(trainings.good), trainings.events, trainings.recipe, note="none")

    assert (report.verdict, report.old, report.note) == ("first", None, "none")
    assert measured_of(report).old is None
    assert report.rankings is None


def test_a_large_rank_distance_needs_an_explanation(trainings: Trainings) -> None:
    recipe = replace(
        trainings.recipe, gate=GateRule(rank_distance=0.01, gauc_gain=1.0, gauc=1.0, log_loss=9.0)
    )

    def ranks(old: Artifact, new: Artifact) -> GateReport:
        return compare(Served(old), Served(new), trainings.events, recipe)

    better = ranks(trainings.untrained, trainings.good)
    poorer = ranks(trainings.good, trainings.untrained)

    assert rankings_of(better).mean == rankings_of(poorer).mean > 0.1
    assert better.verdict == "passed"
    assert failed(poorer) == {"rankings"}


def test_the_serving_models_vocabulary_may_be_another(trainings: Trainings) -> None:
    """A catalogue in another order and with fewer items: scores of the items that both know are the same."""
    events = trainings.events
    order = np.random.default_rng(0).permutation(len(events.vocabulary.items))
    items = [events.vocabulary.items[place] for place in order]
    log = replace(events, vocabulary=replace(events.vocabulary, items=items))
    inputs = inputs_of(trainings.good, log)

    assert [trainings.good.vocabulary.items[row - 2] for row in inputs.items[2:]] == items


def test_records_of_a_small_dtype_are_what_is_compared(trainings: Trainings) -> None:
    recipe, events = trainings.recipe, trainings.events
    report = compare(Served(trainings.good, "fp32"), Served(trainings.good, "int8"), events, recipe)

    assert 0 < abs(worse(measured_of(report).log_loss)) < 0.02


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(trainings, monkeypatch, broken: float) -> None:
    scored = ArtifactScorer.log_odds

    def log_odds(self: ArtifactScorer, batch):
        odds = scored(self, batch)
        if self.artifact_id == trainings.retrained.artifact_id:
            odds[0, 0] = broken
        return odds

    monkeypatch.setattr(ArtifactScorer, "log_odds", log_odds)

    report = gate(trainings, trainings.retrained)
    assert failed(report) == {"finite scores"}
    assert report.measured is None
    assert gate(trainings, trainings.good, old=trainings.retrained).verdict == "passed"


def test_a_model_of_another_catalogue_is_refused(trainings: Trainings) -> None:
    events = trainings.events
    others = [f"other-{item}" for item in events.vocabulary.items]
    log = replace(events, vocabulary=replace(events.vocabulary, items=others))

    report = compare(Served(trainings.good), Served(trainings.retrained), log, trainings.recipe)

    assert failed(report) == {"same task"}
    assert "0% of the log's events" in report.failures[0].text


def test_a_model_that_reads_other_fields_is_refused(trainings: Trainings) -> None:
    events = trainings.events
    vocabulary = replace(events.vocabulary, context={"weekday": events.vocabulary.context["hour"]})
    log = replace(events, vocabulary=vocabulary)

    report = compare(Served(trainings.good), Served(trainings.retrained), log, trainings.recipe)

    assert "context fields hour" in report.failures[0].text


def test_the_report_is_written(trainings: Trainings, tmp_path: Path) -> None:
    report = gate(trainings, trainings.shifted)
    report.save(tmp_path)

    plain = json.loads((tmp_path / "gate.json").read_text())
    page = (tmp_path / "gate.md").read_text()
    assert plain["verdict"] == "refused"
    assert plain["measured"]["old"]["gauc"] > 0.6
    assert "REFUSED" in page
    assert "| log loss | **failed** |" in page
    head = page[: page.index("| check |")]
    assert f"What serves stays: `{trainings.good.artifact_id}`" in head
    assert "- **log loss**: " in head
    assert " times as much)" in head
    assert "--force" in head
    assert page.index("Why:") < page.index("What to do:") < 1200
    assert (tmp_path / "gate.png").stat().st_size > 1000


def captured(trainings: Trainings, path: Path) -> Recipe:
    """A recipe whose gate replays a file: two requests, one of an unknown user, and a line that was torn."""
    events = trainings.events
    users = [events.user_ids[0], "nobody"]
    bodies = [
        {
            "user_id": user,
            "candidates": [*events.vocabulary.items[:20], {"id": "new", "fields": {"shelf": "3"}}],
            "context": {"hour": events.vocabulary.context["hour"][0], "other": 1},
            "recent": list(events.vocabulary.items[:40]),
        }
        for user in users
    ]
    lines = [
        json.dumps({"request_id": f"r{place}", "path": "/v1/score", "body": json.dumps(body)})
        for place, body in enumerate(bodies)
    ]
    path.write_text("\n".join([*lines, lines[0][:40], json.dumps({"path": "/v2/models/m/infer"})]))
    return replace(trainings.recipe, gate=replace(trainings.recipe.gate, captured=str(path)))


def test_slates_are_named_by_the_hash_of_their_user(trainings: Trainings, tmp_path: Path) -> None:
    report = gate(trainings, trainings.retrained)
    report.save(tmp_path)

    hashes = {shown_user(user): user for user in trainings.events.user_ids}
    named = [name.split()[1] for name, _ in rankings_of(report).worst]
    assert named
    assert set(named) <= set(hashes)
    for name in ("gate.json", "gate.md"):
        text = (tmp_path / name).read_text()
        assert all(f"user {user} at" in text for user in named)
        assert not any(f"user {hashes[user]} at" in text for user in named)
    assert "`printf %s USER | sha256sum`" in text


def test_captured_requests_are_replayed_in_place_of_slates(trainings, tmp_path: Path) -> None:
    recipe = captured(trainings, tmp_path / "slow.jsonl")
    report = compare(Served(trainings.good), Served(trainings.retrained), trainings.events, recipe)

    rankings = rankings_of(report)
    assert rankings.requests == 2
    assert {name for name, _ in rankings.worst} == {"request r0", "request r1"}
    assert 0 < rankings.mean < 0.5


def test_a_file_without_requests_is_an_error_that_names_it(trainings, tmp_path: Path) -> None:
    recipe = captured(trainings, tmp_path / "slow.jsonl")
    (tmp_path / "slow.jsonl").write_text("no request\n")

    with pytest.raises(StepError, match=r"gate.captured: .*slow.jsonl: got 1 lines"):
        compare(Served(trainings.good), Served(trainings.good), trainings.events, recipe)
    (tmp_path / "slow.jsonl").unlink()
    with pytest.raises(StepError, match="expected a file; looked at"):
        compare(Served(trainings.good), Served(trainings.good), trainings.events, recipe)


def test_every_check_says_what_to_do(trainings: Trainings) -> None:
    """A name in `page.STEPS` that no check has would be advice that nobody reads."""
    report = gate(trainings, trainings.good)
    others = {"leak audit", "same task"}

    assert {check.name for check in report.checks} | others >= set(STEPS)


def test_a_forced_page_says_that_the_model_serves(trainings: Trainings) -> None:
    forced = gate(trainings, trainings.shifted).forced()
    page = "\n".join(page_lines(forced))

    assert f"Published with --force: `{trainings.shifted.artifact_id}` serves." in page
    assert "absorb rollback" in page
