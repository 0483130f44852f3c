"""The gate's step: find what serves now, compare, write the report."""

import logging
from pathlib import Path
from typing import Any

from builder.audit.report import Audit
from builder.errors import GateError
from builder.gate.checks import audit_check
from builder.gate.compare import Served, compare
from builder.gate.report import MARKDOWN, GateReport
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.publish.cache import connect_cache
from builder.publish.generations import read_pointer
from builder.recipe.recipe import Recipe
from models.contract.artifact import Artifact, load_artifact
from models.contract.errors import ArtifactError
from models.contract.generation import Generation

logger = logging.getLogger(__name__)
Result = dict[str, Any]


def serving_generation(cache_url: str, model: str) -> Generation | None:
    """The generation that serves a model now; None if it was never published."""
    pointer, _ = read_pointer(connect_cache(cache_url), model)
    return None if pointer is None else pointer.current


def decide(
    recipe: Recipe,
    new: Artifact,
    events: Events,
    serving: Generation | None,
    folder: Path,
    progress: Progress = silent,
) -> GateReport:
    """Compare a new artifact with the one that serves; write the report to the run's folder. Reads the cache only.

    Args:
        recipe: of the new artifact.
        new: the new artifact; its folder lies beside those of all artifacts.
        events: the new log.
        serving: the generation that serves now; None: none does.
        folder: of the run: it holds the leak audit's result, and gets the report.
        progress: called after every batch.
    """
    report = _report(recipe, new, events, serving, folder, progress)
    report.save(folder)
    return report


def _report(
    recipe: Recipe,
    new: Artifact,
    events: Events,
    serving: Generation | None,
    folder: Path,
    progress: Progress,
) -> GateReport:
    old_id = None if serving is None else serving.artifact_id
    if not recipe.gate.on:
        return GateReport(recipe.serve_as, new.artifact_id, old_id, "off")
    if old_id == new.artifact_id:
        return GateReport(recipe.serve_as, new.artifact_id, old_id, "same")
    old, note = _served(new.path.parent, serving)
    found = Audit.load(folder)
    audit = audit_check(
        sorted({failure.name for failure in found.failures}),
        sorted({exception.name for exception in found.exceptions}),
    )
    candidate = Served(new, recipe.cache.dtype)
    return compare(old, candidate, events, recipe, audit=audit, note=note, progress=progress)


def _served(artifacts: Path, serving: Generation | None) -> tuple[Served | None, str]:
    """The serving artifact; or None, and why there is none to compare with."""
    if serving is None:
        return None, "Nothing is published under this name yet: the new model is checked alone."
    try:
        return Served(load_artifact(artifacts, serving.artifact_id), serving.dtype), ""
    except ArtifactError as error:
        logger.warning("gate: the serving artifact cannot be compared: %s", error)
        text = (
            f"Generation {serving.name} serves, and its artifact cannot be read ({error}): a service that starts now "
            "could not serve it either. The new model is checked alone."
        )
        return None, text


def require_passed(report: GateReport, folder: Path, *, is_forced: bool) -> GateReport:
    """The report of a model that may be published; one that is published although it is refused says so.

    Raises:
        GateError: the gate refused the model, and it is not forced.
    """
    if report.verdict != "refused":
        return report
    if not is_forced:
        texts = {check.name: check.text for check in report.failures}
        raise GateError(report.model, texts, str(folder / MARKDOWN))
    forced = report.forced()
    forced.save(folder)
    logger.warning(
        "gate: the new model is refused, and published with --force: %s",
        ", ".join(check.name for check in report.failures),
    )
    return forced


def still_holds(
    result: Result, recipe: Recipe, serving: Generation | None, *, is_forced: bool
) -> bool:
    """Whether an earlier verdict is about the artifact that serves now.

    Args:
        result: the step's, `GateReport.summary`.
        recipe: the build's.
        serving: the generation that serves now.
        is_forced: whether this build publishes what is refused.
    """
    serves = None if serving is None else serving.artifact_id
    if serves == result["new"]:
        return True
    if result["is_forced"] and not is_forced:
        return False
    is_asked_alike = (result["verdict"] != "off") == recipe.gate.on
    return bool(serves == result["old"] and is_asked_alike)
