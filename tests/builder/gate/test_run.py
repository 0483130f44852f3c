"""The gate as a step of a build: what it refuses is not published, and what is forced says so."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import GateError, StepError
from builder.pipeline import STEPS, Build, is_due, run_step
from builder.publish.cache import CacheClient
from builder.publish.generations import read_pointer
from builder.recipe.gate import GateRule
from models.contract.artifact import VOCABULARY, Artifact, save_artifact
from models.contract.calibration import CALIBRATION, Temperature, calibration_to_bytes
from models.contract.vocabulary import Vocabulary
from tests.builder.cli.conftest import Call, call  # noqa: F401 - a fixture
from tests.builds import RECIPE


@pytest.fixture
def serving(build: Build, server: Path, client: CacheClient) -> Build:
    """A copy of the finished build, published to an empty cache of its own."""
    own = replace(build, cache_url=f"embedded:{server}")
    with own.folder.locked():
        run_step(own, "gate")
        run_step(own, "publish")
    return own


def exported(build: Build, artifact: Artifact) -> None:
    """Make an artifact the one that the build exported last, and encode its records."""
    stamp = build.folder.stamps()["export"]
    build.folder.stamp(
        "export", replace(stamp, result={**stamp.result, "artifact_id": artifact.artifact_id})
    )
    run_step(build, "precompute")


def with_shifted_rows(good: Artifact, by: int = 1) -> Artifact:
    """The artifact with ids that map to the rows of other items."""
    vocabulary = good.vocabulary
    items = [*vocabulary.items[by:], *vocabulary.items[:by]]
    contents = {name: good.read(name) for name in good.manifest.files}
    contents[VOCABULARY] = replace(vocabulary, items=items).to_bytes()
    return save_artifact(good.path.parent, good.manifest, contents)


def off_by_two(good: Artifact) -> Artifact:
    """The artifact, whose odds are twice as high."""
    contents = {name: good.read(name) for name in good.manifest.files}
    contents[CALIBRATION] = calibration_to_bytes(Temperature(1.0, math.log(2)))
    return save_artifact(good.path.parent, good.manifest, contents)


def values_of(client: CacheClient) -> dict[bytes, object]:
    """Everything in the cache."""
    return {key: client.dump(key) for key in client.scan_iter("*")}


def test_a_bad_model_is_refused_and_nothing_is_written(serving: Build, client) -> None:
    exported(serving, off_by_two(serving.artifact()))
    before = values_of(client)

    with pytest.raises(GateError, match="calibration") as caught:
        run_step(serving, "gate")

    assert caught.value.exit_code == 3
    assert values_of(client) == before
    assert "REFUSED" in (serving.folder.path / "gate.md").read_text()
    assert is_due(serving, "gate")
    with pytest.raises(StepError, match="step 'gate' is missing"):
        run_step(serving, "publish")


def test_a_forced_model_is_published_and_says_so(serving: Build, client: CacheClient) -> None:
    bad = off_by_two(serving.artifact())
    exported(serving, bad)
    forced = replace(serving, is_forced=True)

    gate = run_step(forced, "gate").result
    assert is_due(
        serving, "gate"
    )  # a build without --force does not publish what an earlier one forced
    assert not is_due(forced, "gate")
    published = run_step(forced, "publish").result

    assert gate["is_forced"]
    assert gate["verdict"] == "refused"
    assert published["gate"]["is_forced"]
    assert "calibration" in published["gate"]["failed"]
    assert "published with --force" in (serving.folder.path / "gate.md").read_text()
    pointer, _ = read_pointer(client, serving.recipe.serve_as)
    assert pointer is not None
    assert pointer.current.artifact_id == bad.artifact_id
    assert not is_due(serving, "gate")


def test_the_same_artifact_passes_and_the_first_is_checked_alone(serving: Build, client) -> None:
    assert run_step(serving, "gate").result["verdict"] == "same"

    client.flushall()
    first = run_step(serving, "gate").result

    assert (first["verdict"], first["old"]) == ("first", None)
    assert "Nothing is published" in first["note"]


def test_a_serving_artifact_that_is_gone_is_said(serving: Build) -> None:
    good = serving.artifact()
    exported(serving, with_shifted_rows(good))
    shutil.rmtree(good.path)

    result = run_step(serving, "gate").result

    assert result["verdict"] == "first"
    assert good.artifact_id in result["note"]


def test_a_recipe_may_have_no_gate(serving: Build) -> None:
    exported(serving, with_shifted_rows(serving.artifact()))
    without = replace(serving, recipe=replace(serving.recipe, gate=GateRule(on=False)))

    assert run_step(without, "gate").result["verdict"] == "off"
    assert is_due(serving, "gate")
    assert not is_due(without, "gate")


def test_margins_change_no_step(serving: Build) -> None:
    wider = replace(serving, recipe=replace(serving.recipe, gate=GateRule(gauc=0.5)))

    assert [name for name in STEPS if is_due(wider, name)] == []


def test_a_refusal_is_exit_code_3(call: Call, tmp_path: Path, monkeypatch, server, client) -> None:  # noqa: F811
    """The real command line on the tiny recipe: a build, then a bad artifact, refused and forced."""
    monkeypatch.setenv("ABSORB_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("ABSORB_ARTIFACT_DIR", str(tmp_path / "artifacts"))
    monkeypatch.setenv("ABSORB_CACHE_URL", f"embedded:{server}")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.read_text())
    built = call("build", recipe)
    assert built.code == 0, built.err
    assert "passes alone" in built.out
    from builder.cli.options import make_build

    made = make_build(recipe, tmp_path / "runs", tmp_path / "artifacts", f"embedded:{server}")
    exported(made, with_shifted_rows(made.artifact()))

    refused, forced = call("gate", recipe), call("build", recipe, "--force")

    assert refused.code == 3
    assert "--force" in refused.err
    assert forced.code == 0
    assert "REFUSED, and forced" in forced.out


def test_a_vocabulary_is_only_shifted(serving: Build) -> None:
    """The planted artifact is what it says: the same rows, one item further."""
    good = serving.artifact()
    bad = Vocabulary.from_bytes(with_shifted_rows(good).read(VOCABULARY))

    assert list(bad.items[:-1]) == list(good.vocabulary.items[1:])
