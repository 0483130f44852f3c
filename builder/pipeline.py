"""The nightly job as a chain of steps. Each is done again only when something it depends on has changed.

ingest -> train -> evaluate -> export -> precompute -> publish
"""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from builder.checkpoint import Checkpoint
from builder.dataset.parts import batch_source, part_slates
from builder.errors import StepError
from builder.evaluate.report import evaluate
from builder.export.onnx import export
from builder.export.precompute import precompute, read_records, write_records
from builder.ingest.events import Events
from builder.ingest.run import ingest, input_fingerprint
from builder.language.field_vectors import vectors_of
from builder.progress import Progress, counted, silent
from builder.publish.blue_green import publish
from builder.publish.cache import connect_cache
from builder.publish.generations import new_generation, read_pointer
from builder.publish.records import Records
from builder.publish.rolling import publish_in_place
from builder.recipe.recipe import Recipe
from builder.run_folder import RunFolder, Stamp
from builder.train.train import train
from models.contract.artifact import Artifact, load_artifact
from models.contract.errors import AbsorbError
from models.contract.record import encode_record, record_bytes
from models.registry import model_entry

logger = logging.getLogger(__name__)

SAMPLE_SLATES = 16
"""Slates on which the exported graphs are compared with torch."""
Result = dict[str, Any]


@dataclass(frozen=True)
class Build:
    """A recipe and where its build lives.

    Attributes:
        recipe: what to build.
        folder: of the run.
        artifacts: folder of all artifacts, shared with the service.
        cache_url: where to publish.
        progress: told how far the running step is.
    """

    recipe: Recipe
    folder: RunFolder
    artifacts: Path
    cache_url: str
    progress: Progress = silent

    def events(self) -> Events:
        """The ingested log."""
        return Events.load(self.folder.events)

    def artifact(self) -> Artifact:
        """The exported artifact, verified."""
        return load_artifact(self.artifacts, self.folder.stamps()["export"].result["artifact_id"])


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        run: does it; returns what it reports.
        sections: of the recipe that it depends on beside the steps before it.
        is_current: whether what it left is still there, in spite of a matching stamp.
    """

    run: Callable[[Build], Result]
    sections: tuple[str, ...]
    is_current: Callable[[Build, Result], bool] = lambda build, result: True


def _ingest(build: Build) -> Result:
    events = ingest(build.recipe)
    with build.folder.replacing(build.folder.events) as folder:
        events.save(folder)
    return {
        "events": len(events.item),
        "users": events.num_users,
        "items": len(events.item_fields) - 2,
    }


def _train(build: Build) -> Result:
    events = build.events()
    if not events.has_times and model_entry(build.recipe.model.name).model.reads_history:
        problem = f"model {build.recipe.model.name!r} reads histories, and the log has no times to order them"
        raise StepError(f"train: {problem}; field models read none")
    vectors = vectors_of(events, build.recipe, build.folder, build.progress)
    checkpoint = train(events, build.recipe, build.progress, vectors)
    with build.folder.replacing(build.folder.checkpoint) as folder:
        checkpoint.save(folder)
    best = max(checkpoint.history, key=lambda line: line["auc"])
    return {"best_step": best["step"], "validation_auc": best["auc"]}


def _evaluate(build: Build) -> Result:
    checkpoint = Checkpoint.load(build.folder.checkpoint)
    return evaluate(checkpoint, build.events(), build.recipe, build.progress).to_dict()


def _export(build: Build) -> Result:
    events, recipe = build.events(), build.recipe
    slates = part_slates(events, recipe, "test")
    source = batch_source(events, recipe, "test")
    chosen = np.arange(min(SAMPLE_SLATES, len(slates)))
    sample, _ = source.batch(slates, chosen, np.random.default_rng(0))
    report = build.folder.stamps()["evaluate"].result
    artifact = export(
        Checkpoint.load(build.folder.checkpoint),
        report,
        recipe.to_dict(),
        events,
        sample,
        build.artifacts,
    )
    return {
        "artifact_id": artifact.artifact_id,
        "onnx_difference": artifact.manifest.onnx_difference,
    }


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
    watched = counted(records, events.num_users, build.progress)
    with build.folder.replacing(build.folder.records) as path:
        count = write_records(watched, artifact, dtype, path)
    size = record_bytes(
        artifact.manifest.state_spec, dtype,
        user_id_bytes=max(len(user.encode()) for user in events.user_ids),
        recent=events.schema.recent_length,
    )  # fmt: skip
    return {"users": count, "bytes_per_user": size, "as_of_s": events.as_of_s}


def _publish(build: Build) -> Result:
    artifact, made = build.artifact(), build.folder.stamps()["precompute"].result
    records = read_records(build.folder.records, artifact)
    return _send(build, artifact, records, made["users"], made["as_of_s"])


def republish(build: Build, artifact_id: str) -> Result:
    """Encode every user of the ingested log with an artifact, and publish that. The next `run` publishes the newest.

    Raises:
        ArtifactError: the artifact is not there any more.
        StepError: the log was ingested with other lengths or vocabularies than it was trained with.
    """
    artifact, events, dtype = (
        load_artifact(build.artifacts, artifact_id),
        build.events(),
        build.recipe.cache.dtype,
    )
    spec = artifact.manifest.state_spec
    records = (
        (record.user_id, encode_record(record, spec, artifact_id, dtype))
        for record in precompute(artifact, events, build.recipe.train.threads)
    )
    build.folder.forget(["publish"])
    return _send(build, artifact, records, events.num_users, events.as_of_s)


def _send(build: Build, artifact: Artifact, records: Records, users: int, as_of_s: int) -> Result:
    client, rule = connect_cache(build.cache_url), build.recipe.publish
    generation = new_generation(
        build.recipe.serve_as, artifact.artifact_id, users, as_of_s, build.recipe.cache.dtype,
        datetime.now(UTC),
    )  # fmt: skip
    spec, done = artifact.manifest.state_spec, 0

    def report(number: int) -> None:
        nonlocal done
        done += number
        build.progress(done, users)

    if rule.mode == "rolling":
        publish_in_place(client, generation, records, spec, wait_s=rule.wait_s, progress=report)
    else:
        publish(client, generation, records, spec, progress=report)
    return asdict(generation)


def _generation_serves(build: Build, result: Result) -> bool:
    pointer, _ = read_pointer(connect_cache(build.cache_url), build.recipe.serve_as)
    return pointer is not None and pointer.current.name == result["name"]


STEPS: dict[str, Step] = {
    "ingest": Step(_ingest, ("data", "split", "history")),
    "train": Step(_train, ("model", "negatives", "train", "language")),
    "evaluate": Step(_evaluate, ()),
    "export": Step(_export, (), _artifact_is_there),
    "precompute": Step(_precompute, ("cache",)),
    "publish": Step(_publish, ("serve_as",), _generation_serves),
}


def fingerprints(recipe: Recipe) -> dict[str, str]:
    """For each step, a hash of everything it depends on."""
    chain, result = input_fingerprint(recipe), {}
    for name, step in STEPS.items():
        chain = hashlib.sha256(f"{chain}{recipe.fingerprint(step.sections)}".encode()).hexdigest()
        result[name] = chain[:16]
    return result


def run_step(build: Build, name: str) -> Stamp:
    """Do one step now, whatever its stamp says; the steps after it become due.

    Raises:
        StepError: a step before it was never done with this recipe and these files.
    """
    due = fingerprints(build.recipe)
    names = list(STEPS)
    stamps = build.folder.stamps()
    for before in names[: names.index(name)]:
        if before not in stamps or stamps[before].fingerprint != due[before]:
            state = "is missing" if before not in stamps else "is out of date"
            raise StepError(
                f"{name}: step {before!r} {state}; run it first, or `run` to do all that is due"
            )
    build.folder.forget(names[names.index(name) :])
    began_s = time.monotonic()
    result = STEPS[name].run(build)
    stamp = Stamp(due[name], time.monotonic() - began_s, result)
    build.folder.stamp(name, stamp)
    logger.info("%s: done in %.1f s: %s", name, stamp.seconds, result)
    return stamp


def is_due(build: Build, name: str) -> bool:
    """Whether a step must be done: never done, done with other inputs, or its outcome is gone."""
    stamp = build.folder.stamps().get(name)
    if stamp is None or stamp.fingerprint != fingerprints(build.recipe)[name]:
        return True
    return not STEPS[name].is_current(build, stamp.result)
