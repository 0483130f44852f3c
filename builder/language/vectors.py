"""Field texts -> field vectors and a report, tuned once for each content.

    <folder>/<hash>/
        vectors.safetensors    [K, D], as the language model encodes the descriptions
        report.json            what tuning did: losses, accuracies, seconds

The hash is of all that decides them but the processor: where it multiplies bfloat16 matrices, tuning uses that.
"shuffled" and "random" are made of the tuned ones when they are read.
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
"""Of the prompts, the tuning and the files: another one makes all vectors anew."""
VECTORS_FILE, REPORT_FILE = "vectors.safetensors", "report.json"


@dataclass(frozen=True)
class FieldVectors:
    """A vector for each field.

    Attributes:
        vectors: in the order of `FieldTexts`; float32.
        report: what they are and how they came to be; JSON's types.
    """

    vectors: Float[Tensor, "K D"]
    report: dict[str, Any]


def field_vectors(
    texts: FieldTexts, rule: LanguageRule, folder: Path, progress: Progress = silent
) -> FieldVectors:
    """Vectors of the fields, from `folder` if they were made before.

    Args:
        texts: fields and values.
        rule: of the recipe.
        folder: of all vectors ever made; made if absent.
        progress: steps of tuning.

    Raises:
        WeightsError: a package of the language model is not there, or not what was published.
    """
    key = content_hash(texts, rule)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):  # who comes second waits, and finds them
        if not (folder / key).exists():
            _make(texts, rule, folder / key, progress)
    vectors = load_file(folder / key / VECTORS_FILE)["vectors"]
    report = json.loads((folder / key / REPORT_FILE).read_text())
    chosen = chosen_vectors(vectors, rule)
    return FieldVectors(
        chosen, {**report, "vectors": rule.vectors, "cosines": cosine_summary(chosen)}
    )


def content_hash(texts: FieldTexts, rule: LanguageRule) -> str:
    """Of all that decides the vectors of the model, 32 hex digits."""
    tuned = asdict(rule)
    # Descriptions are in the texts; threads only take longer; controls are made of tuned vectors.
    for key in ("descriptions", "threads", "vectors"):
        del tuned[key]
    if rule.vectors == "raw":
        tuned["steps"] = 0
    weights = WEIGHTS[rule.model].sha256()
    content = {"format": FORMAT, "texts": asdict(texts), "rule": tuned, "weights": weights}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _make(texts: FieldTexts, rule: LanguageRule, place: Path, progress: Progress) -> None:
    check_libraries()
    from builder.language.ssft import fine_tune  # here: what was made before needs no such library

    vectors, report = fine_tune(texts, rule, progress)
    after = report["accuracy"]["after"]["of_values"]
    logger.info("fields tuned on their values: held-out accuracy %s", after)
    with _appearing(place) as staged:
        save_file({"vectors": vectors.contiguous()}, staged / VECTORS_FILE)
        (staged / REPORT_FILE).write_text(json.dumps(report, indent=1))


@contextmanager
def _appearing(place: Path) -> Iterator[Path]:
    """A folder to write to, which is seen as `place` when the block ends well."""
    staged = place.with_name(f"{place.name}.new")
    shutil.rmtree(staged, ignore_errors=True)  # of a killed builder
    staged.mkdir()
    yield staged
    staged.rename(place)
