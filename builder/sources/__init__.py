"""Every source of events by the name a recipe gives it: one literal dict."""

from collections.abc import Callable

from builder.recipe import Recipe
from builder.sources.complete_journey import read_complete_journey
from builder.sources.files import read_files
from builder.sources.movielens import read_movielens
from builder.sources.raw import RawLog
from builder.sources.synthetic import read_synthetic

SOURCES: dict[str, Callable[[Recipe], RawLog]] = {
    "complete-journey": read_complete_journey,
    "movielens": read_movielens,
    "files": read_files,
    "synthetic": read_synthetic,
}
