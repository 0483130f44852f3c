"""The nightly job as a chain of steps. A step runs again only if something that it depends on has changed.

    ingest -> audit -> train -> evaluate -> export -> precompute -> gate -> publish

Read from top to bottom: a build, its eight steps in order, the table of steps, then what runs them.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from builder.audit.report import JSON
from builder.audit.run import audit
from builder.checkpoint import Checkpoint
from builder.dataset.request_gap import request_gap_s
from builder.errors import StepError
from builder.evaluate.report import evaluate
from builder.evaluate.report_page import write_report_page
from builder.export.onnx import export
from builder.export.precompute import (
    base_histories,
    precompute,
    read_histories,
    read_records,
    write_histories,
    write_records,
)
from builder.export.sample import export_sample
from builder.gate.run import decide, require_passed, serving_generation, still_holds
from builder.ingest.checks import require_negatives
from builder.ingest.events import Events, read_user_ids
from builder.ingest.run import STAGES, ingest, input_fingerprint
from builder.ingest.times import as_date
from builder.language.field_vectors import vectors_of
from builder.progress import Progress, counted, silent
from builder.publish.cache import connect_cache
from builder.publish.forgotten import tombstones_of_build
from builder.publish.new_items import drop_known
from builder.publish.send import Packed, send
from builder.recipe.audit import exception_lines
from builder.recipe.recipe import Recipe
from builder.run_folder import RunFolder, Stamp
from builder.train.curve import plot_curve
from builder.train.train import train
from builder.train.warm_start import WarmStart, WarmStartError
from models.contract.artifact import Artifact, load_artifact
from models.contract.errors import AbsorbError
from models.contract.record import encode_record
from models.contract.schema import FIRST_KNOWN
from models.live.tombstones import Tombstones
from models.registry import model_entry

logger = logging.getLogger(__name__)

BUILD_TEST_SLATES = 1024
"""Slates whose whole pools a build measures, its baselines too; a comparison takes 4,096, which takes minutes more."""
Result = dict[str, Any]
"""What a step reports, in JSON types."""


@dataclass(frozen=True)
class Build:
    """A recipe, and where its build is kept.

    Attributes:
        recipe: what to build.
        folder: the run's folder.
        artifacts: folder of all artifacts, shared with the service.
        cache_url: the cache to publish to.
        progress: called by the running step.
        reads_tombstones: whether to ask the cache who is forgotten before the log is ingested.
        is_forced: whether a model that the gate refuses is published anyway.
    """

    recipe: Recipe
    folder: RunFolder
    artifacts: Path
    cache_url: str
    progress: Progress = silent
    reads_tombstones: bool = True
    is_forced: bool = False

    def events(self) -> Events:
        """The ingested log.

        Raises:
            StepError: the log was not ingested, or its files are damaged.
        """
        try:
            return Events.load(self.folder.events)
        except FileNotFoundError as error:
            raise StepError(
                f"{self.folder.events}: got no {Path(error.filename).name}, expected the ingested log; "
                f"run `absorb ingest {self.recipe.path}` first"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise StepError(
                f"{self.folder.events}: the ingested log cannot be read ({error}); "
                f"run `absorb ingest {self.recipe.path}` again"
            ) from error

    def tombstones(self) -> Tombstones:
        """The forgotten users, whose events are not ingested.

        Raises:
            StepError: the cache does not answer; the error names the choice.
        """
        if not self.reads_tombstones:
            return Tombstones()
        return tombstones_of_build(self.cache_url, self.folder.path.parent)

    def artifact(self) -> Artifact:
        """The exported artifact, verified."""
        return load_artifact(self.artifacts, self.folder.stamps()["export"].result["artifact_id"])


def _ingest(build: Build) -> Result:
    events = ingest(build.recipe, build.progress, build.tombstones())
    build.progress(STAGES - 1, STAGES, "writing")
    with build.folder.replacing(build.folder.events) as folder:
        events.save(folder)
    build.progress(STAGES, STAGES)
    items = len(events.item_fields) - FIRST_KNOWN
    counts = {"events": len(events.item), "users": events.num_users, "items": items}
    if not events.has_times:
        return counts
    first_s, last_s = int(events.ts_s.min()), int(events.ts_s.max())
    return {**counts, "first": as_date(first_s), "last": as_date(last_s)}


def _is_without_forgotten(build: Build, result: Result) -> bool:
    """Whether no user of the ingested log was forgotten since."""
    tombstones = build.tombstones()
    if not tombstones.times:
        return True
    try:
        return not tombstones.named(read_user_ids(build.folder.events))
    except (OSError, ValueError, KeyError):
        return True  # the step that reads the log says what is wrong with it


def _audit(build: Build) -> Result:
    found = audit(build.events(), build.recipe, progress=build.progress)
    found.save(build.folder.path)  # before it fails: the table shows more than the error
    found.require_no_leak()
    return found.summary()


def _has_audit(build: Build, result: Result) -> bool:
    return (build.folder.path / JSON).is_file()


def _train(build: Build) -> Result:
    events, name = build.events(), build.recipe.model.name
    if not events.has_times and model_entry(name).model.reads_history:
        raise StepError(
            f"train: model {name!r} reads histories, and the log has no times to order them by; expected a field model"
        )
    require_negatives(events, build.recipe.history.min_events)
    vectors = vectors_of(events, build.recipe, build.folder, build.progress)
    start, why = _warm_start(build, events)
    checkpoint = train(
        events, build.recipe, build.progress, vectors, folder=build.folder.training, start=start
    )
    with build.folder.replacing(build.folder.checkpoint) as folder:
        checkpoint.save(folder)
        plot_curve(checkpoint, folder)
    return {
        "best_step": checkpoint.best_step,
        "steps": checkpoint.history[-1]["step"],
        "ended": checkpoint.ended,
        "validation_auc": checkpoint.best["auc"],
        "validation_gauc": checkpoint.best["gauc"],
        "warm_start": why if start is None else f"from step {start.step}",
    }


def _warm_start(build: Build, events: Events) -> tuple[WarmStart | None, str]:
    """The last training, if the recipe wants to go on from it and that is possible; and else why it is not."""
    if not build.recipe.train.warm_start:
        return None, ""
    try:
        start = WarmStart.load(build.folder.checkpoint)
        start.require_fits(build.recipe, events)
    except WarmStartError as error:
        logger.warning("%s; training starts anew", error)
        return None, f"no: {error}"
    return start, ""


def _evaluate(build: Build) -> Result:
    checkpoint, recipe = Checkpoint.load(build.folder.checkpoint), build.recipe
    report = evaluate(
        checkpoint,
        build.events(),
        recipe,
        build.progress,
        test_slates=BUILD_TEST_SLATES,
    ).to_dict()
    title = f"{recipe.name}, model {recipe.model.name}"
    write_report_page(report, build.folder.path, title, exception_lines(recipe.audit))
    return report


def _export(build: Build) -> Result:
    checkpoint, events = Checkpoint.load(build.folder.checkpoint), build.events()
    stamps, recipe = build.folder.stamps(), build.recipe.to_dict()
    report = {**stamps["evaluate"].result, "audit": stamps["audit"].result}
    sample = export_sample(events, build.recipe)
    gap_s = request_gap_s(events, build.recipe, events.as_of_s)
    artifact = export(checkpoint, report, recipe, events, sample, build.artifacts, gap_s)
    difference = artifact.manifest.onnx_difference
    return {"artifact_id": artifact.artifact_id, "onnx_difference": difference}


def _artifact_is_there(build: Build, result: Result) -> bool:
    try:
        load_artifact(build.artifacts, result["artifact_id"])
    except AbsorbError as error:
        logger.warning("exporting again: %s", error)
        return False
    return True


def _precompute(build: Build) -> Result:
    artifact, events, dtype = build.artifact(), build.events(), build.recipe.cache.dtype
    records = precompute(artifact, events, build.recipe.train.threads)
    with build.folder.replacing(build.folder.records) as path:
        counting = counted(records, events.num_users, build.progress, "users")
        written = write_records(counting, artifact, dtype, path)
    history_bytes = _write_histories(build, artifact, events)
    return {
        "users": written.users,
        "bytes_per_user": round(written.total_bytes / max(1, written.users)),
        "largest_bytes": written.largest_bytes,
        "history_bytes_per_user": round(history_bytes / max(1, written.users)),
        "as_of_s": events.as_of_s,
    }


def _write_histories(build: Build, artifact: Artifact, events: Events) -> int:
    """Write the base histories, if states are to follow events; returns their bytes."""
    if not build.recipe.cache.follow:
        build.folder.histories.unlink(missing_ok=True)
        return 0
    with build.folder.replacing(build.folder.histories) as path:
        return write_histories(base_histories(artifact, events), path)


def _gate(build: Build) -> Result:
    serving = serving_generation(build.cache_url, build.recipe.serve_as)
    artifact, events, folder = build.artifact(), build.events(), build.folder.path
    report = decide(build.recipe, artifact, events, serving, folder, build.progress)
    return require_passed(report, folder, is_forced=build.is_forced).summary()


def _gate_holds(build: Build, result: Result) -> bool:
    serving = serving_generation(build.cache_url, build.recipe.serve_as)
    return still_holds(result, build.recipe, serving, is_forced=build.is_forced)


def _publish(build: Build) -> Result:
    artifact, records = build.artifact(), build.folder.stamps()["precompute"].result
    packed = read_records(build.folder.records)
    follow = build.recipe.cache.follow
    histories = read_histories(build.folder.histories) if follow else None
    sent = Packed(packed, histories, records["users"], records["as_of_s"])
    generation = send(build.cache_url, build.recipe, artifact, sent, build.progress)
    # What every build knows by now needs no prototype; two generations of a model are kept.
    drop_known(connect_cache(build.cache_url), build.artifacts)
    gate = build.folder.stamps()["gate"].result
    kept = {name: gate[name] for name in ("verdict", "is_forced", "failed")}
    return {**asdict(generation), "gate": kept}


def _generation_serves(build: Build, result: Result) -> bool:
    serving = serving_generation(build.cache_url, build.recipe.serve_as)
    return serving is not None and serving.name == result["name"]


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        run: does the step; returns what it reports.
        sections: sections of the recipe that it depends on, beside the steps before it.
        is_current: whether its output is still there and valid, given that its stamp matches.
        used_by: the first later step that reads its output; empty: the next one. Every later step waits for it, but
            those between need not run again when it does.
    """

    run: Callable[[Build], Result]
    sections: tuple[str, ...]
    is_current: Callable[[Build, Result], bool] = lambda build, result: True
    used_by: str = ""


STEPS: dict[str, Step] = {
    "ingest": Step(_ingest, ("data", "split", "history"), _is_without_forgotten),
    # Another reason for an exception must not train the model again; the artifact's manifest holds it.
    "audit": Step(_audit, ("negatives", "audit"), _has_audit, used_by="export"),
    "train": Step(_train, ("model", "negatives", "sampling", "train", "language")),
    "evaluate": Step(_evaluate, ("calibration",)),
    "export": Step(_export, (), _artifact_is_there),
    "precompute": Step(_precompute, ("cache",)),
    "gate": Step(_gate, (), _gate_holds),
    "publish": Step(_publish, ("serve_as",), _generation_serves),
}


def fingerprints(recipe: Recipe) -> dict[str, str]:
    """Step -> hash of everything that it depends on."""
    chain, hashes = input_fingerprint(recipe), {}
    waiting: dict[str, str] = {}
    for name, step in STEPS.items():
        inputs = f"{chain}{waiting.pop(name, '')}{recipe.fingerprint(step.sections)}"
        digest = hashlib.sha256(inputs.encode()).hexdigest()
        hashes[name] = digest[:16]
        if step.used_by:
            waiting[step.used_by] = digest
        else:
            chain = digest
    return hashes


def is_due(build: Build, name: str) -> bool:
    """Whether a step must run: it never ran, or ran with other inputs, or its output is gone."""
    stamp = build.folder.stamps().get(name)
    if stamp is None or stamp.fingerprint != fingerprints(build.recipe)[name]:
        return True
    return not STEPS[name].is_current(build, stamp.result)


def run_step(build: Build, name: str) -> Stamp:
    """Run one step, even if it is not due; the steps that depend on it become due.

    Raises:
        StepError: a step before it has not run with this recipe and these input files; or a file cannot be read or
            written, such as on a full disk.
    """
    due = fingerprints(build.recipe)
    names = list(STEPS)
    stamps = build.folder.stamps()
    for before in names[: names.index(name)]:
        if before not in stamps or stamps[before].fingerprint != due[before]:
            state = "is missing" if before not in stamps else "is out of date"
            raise StepError(
                f"{name}: step {before!r} {state}; run it first, or `absorb build` for all that is due"
            )
    build.folder.forget([name, *names[names.index(STEPS[name].used_by or name) :]])
    began_s = time.monotonic()
    try:
        result = STEPS[name].run(build)
    except (OSError, SafetensorError) as error:
        # A full disk, above all. The step before is whole: outputs are renamed into place when they are complete.
        raise StepError(
            f"{name}: {error}; got no complete output, expected to read and write {build.folder.path}"
        ) from error
    stamp = Stamp(due[name], time.monotonic() - began_s, result)
    build.folder.stamp(name, stamp)
    logger.info("%s: done in %.1f s: %s", name, stamp.seconds, json.dumps(result))
    return stamp


def republish(build: Build, artifact_id: str) -> Result:
    """Encode every user of the ingested log with an older artifact and publish the records.

    The publish step becomes due: the next build publishes the newest artifact again.

    Raises:
        ArtifactError: the artifact is not in the folder any more.
        StepError: the log was ingested with other lengths or vocabularies than the artifact was trained with.
    """
    artifact, events = load_artifact(build.artifacts, artifact_id), build.events()
    spec, dtype = artifact.manifest.state_spec, build.recipe.cache.dtype
    records = (
        (record.user_id, encode_record(record, spec, artifact_id, dtype))
        for record in precompute(artifact, events, build.recipe.train.threads)
    )
    build.folder.forget(["publish"])
    histories = base_histories(artifact, events) if build.recipe.cache.follow else None
    sent = Packed(records, histories, events.num_users, events.as_of_s)
    return asdict(send(build.cache_url, build.recipe, artifact, sent, build.progress))
