"""Events -> the slates on which exported graphs are compared with torch."""

import numpy as np

from builder.dataset.parts import batch_source, part_slates
from builder.ingest.events import Events
from builder.recipe.recipe import Recipe
from models.batch import Batch

SAMPLE_SLATES = 16


def export_sample(events: Events, recipe: Recipe) -> Batch:
    """The first slates of the test period."""
    slates, source = part_slates(events, recipe, "test"), batch_source(events, recipe, "test")
    chosen = np.arange(min(SAMPLE_SLATES, len(slates)))
    return source.batch(slates, chosen, np.random.default_rng(0))[0]
