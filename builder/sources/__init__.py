"""Every source of events by the name a recipe gives it: one literal dict."""

from collections.abc import Callable

from builder.recipe import Recipe
from builder.sources.complete_journey import read_complete_journey
from builder.sources.raw import RawLog

SOURCES: dict[str, Callable[[Recipe], RawLog]] = {
    "complete-journey": read_complete_journey,
}
