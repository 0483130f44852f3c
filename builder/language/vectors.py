"""Field texts -> field vectors and a report, tuned once for each content.

    <folder>/<hash>/
        vectors.safetensors    [K, D], as the language model encodes the descriptions
        report.json            what tuning did: losses, accuracies, seconds

The hash covers everything that decides the vectors except the processor: tuning uses bfloat16 where it has matrix
units for it. "shuffled" and "random" vectors are made from the tuned ones when these are read.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from builder.language.controls import chosen_vectors, cosine_summary
from builder.language.texts import FieldTexts
from builder.language.weights import WEIGHTS, check_libraries
from builder.progress import Progress, silent
from builder.recipe.language import LanguageRule

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of prompts, tuning and files: with another one, all vectors are made again."""
VECTORS_FILE, REPORT_FILE = "vectors.safetensors", "report.json"


@dataclass(frozen=True)
class FieldVectors:
    """A vector for each field.

    Attributes:
        vectors: in the order of `FieldTexts`; float32.
        report: how the vectors were made, in JSON types.
    """

    vectors: Float[Tensor, "K D"]
    report: dict[str, Any]


def field_vectors(
    texts: FieldTexts, rule: LanguageRule, folder: Path, progress: Progress = silent
) -> FieldVectors:
    """Vectors of the fields, read from `folder` if they were made before.

    Args:
        texts: fields and values.
        rule: of the recipe.
        folder: where vectors are kept; made if absent.
        progress: called after every step of tuning.

    Raises:
        WeightsError: a package of the language model is missing, or differs from the published one.
    """
    key = content_hash(texts, rule)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):  # a second process waits here and then reads them
        if not (folder / key).exists():
            _make(texts, rule, folder / key, progress)
    vectors = load_file(folder / key / VECTORS_FILE)["vectors"]
    report = json.loads((folder / key / REPORT_FILE).read_text())
    chosen = chosen_vectors(vectors, rule)
    return FieldVectors(
        chosen, {**report, "vectors": rule.vectors, "cosines": cosine_summary(chosen)}
    )


def content_hash(texts: FieldTexts, rule: LanguageRule) -> str:
    """32 hex digits of a hash of everything that decides the vectors of the model."""
    tuned = asdict(rule)
    # Descriptions are part of the texts, threads change only the time, controls are made from tuned vectors.
    for key in ("descriptions", "threads", "vectors"):
        del tuned[key]
    if rule.vectors == "raw":
        tuned["steps"] = 0
    weights = WEIGHTS[rule.model].sha256()
    content = {"format": FORMAT, "texts": asdict(texts), "rule": tuned, "weights": weights}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _make(texts: FieldTexts, rule: LanguageRule, place: Path, progress: Progress) -> None:
    check_libraries()
    from builder.language.ssft import (
        fine_tune,
    )  # imported here: reading stored vectors must not need it

    vectors, report = fine_tune(texts, rule, progress)
    after = report["accuracy"]["after"]["of_values"]
    logger.info("fields tuned on their values: held-out accuracy %s", after)
    with _appearing(place) as staged:
        save_file({"vectors": vectors.contiguous()}, staged / VECTORS_FILE)
        (staged / REPORT_FILE).write_text(json.dumps(report, indent=1))


@contextmanager
def _appearing(place: Path) -> Iterator[Path]:
    """A folder to write to; renamed to `place` when the block ends without an error."""
    staged = place.with_name(f"{place.name}.new")
    shutil.rmtree(staged, ignore_errors=True)  # left by a killed builder
    staged.mkdir()
    yield staged
    staged.rename(place)
