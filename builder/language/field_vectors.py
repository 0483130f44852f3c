"""Vectors of a log's fields, for models that read them: made once for the fields' texts, then read from a folder."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from builder.errors import StepError
from builder.ingest.events import Events
from builder.language.texts import field_texts
from builder.language.vectors import FieldVectors, field_vectors
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe
from builder.run_folder import RunFolder


def vectors_of(
    events: Events, recipe: Recipe, folder: RunFolder, progress: Progress = silent
) -> Float[Tensor, "K Dl"] | None:
    """Vectors of the recipe's fields; None for a model that reads none.

    Args:
        events: the ingested log.
        recipe: with the model, and the section on language.
        folder: of the run.
        progress: called after every step of tuning.
    """
    if recipe.language is None or not recipe.model.config.get("llm_dim"):
        return None
    return make_vectors(events, recipe, folder, progress).vectors


def make_vectors(
    events: Events, recipe: Recipe, folder: RunFolder, progress: Progress = silent
) -> FieldVectors:
    """Vectors of the recipe's fields, with a report on how they were made.

    Raises:
        StepError: the recipe has no section on language, or the ingested log has no values of fields.
        RecipeError: a description names an unknown field.
        WeightsError: the language model is not installed.
    """
    if recipe.language is None:
        raise StepError("field vectors: the recipe has no [language] section")
    texts = field_texts(
        events.schema,
        events.vocabulary.user,
        events.vocabulary.context,
        _item_values(events),
        events.vocabulary.candidate,
        recipe.language.descriptions,
    )
    return field_vectors(texts, recipe.language, folder.language, progress)


def _item_values(events: Events) -> Mapping[str, Any]:
    if not events.item_values:
        raise StepError(
            "field vectors: the ingested log has no values of the item fields; ingest it again: "
            "python -m builder ingest RECIPE"
        )
    return events.item_values
