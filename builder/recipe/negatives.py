"""The `[negatives]` section of a recipe: how negatives are drawn for a log without a label."""

from dataclasses import dataclass
from typing import Annotated, Literal

from builder.recipe.limits import Interval, Share


@dataclass(frozen=True)
class NegativeRule:
    """How negatives are drawn for a log without a label."""

    per_positive: Annotated[int, Interval(ge=1)] = 1
    """Negatives drawn for each positive."""
    exclude: Literal["slate", "past", "ever"] = "slate"
    """Items that are never drawn. "slate": those that the user takes at the target's time. "past": also those that it
    took earlier; for logs in which nothing is taken twice, where an item of the history could only be a negative.
    "ever": all that it takes, later too; that leaks the label, and the leak audit fails it without an exception."""
    same_category: Share = 0.5
    """Share of the negatives that is drawn from the positive's category."""
    popularity_power: Annotated[float, Interval(ge=0)] = 0.75
    """Exponent of an item's popularity in the draw; 0 draws all items with equal probability."""
    own_past: Share = 0.0
    """Share of the negatives that is drawn from the user's own earlier events: an item that it took ten times is drawn
    ten times as often as one that it took once. The others are drawn as the other keys say. Needs exclude = "slate"."""
    window_hours: Annotated[float, Interval(gt=0)] | None = None
    """Negatives are drawn from the events of all users in so many hours before the target, each event with equal
    probability. Needs same_category = 0 and popularity_power = 1. Unset: popularity is that of the whole time."""

    def __post_init__(self) -> None:
        if self.own_past and self.exclude != "slate":
            raise ValueError(
                f'own_past: got {self.own_past:g} with exclude = "{self.exclude}", expected exclude = "slate": '
                "the user's earlier items are excluded"
            )
        if self.window_hours is None:
            return
        for name, needed in (("same_category", 0.0), ("popularity_power", 1.0)):
            got = getattr(self, name)
            if got != needed:
                raise ValueError(
                    f"window_hours: got {self.window_hours:g} with {name} = {got:g}, expected {name} = {needed:g}: "
                    "every event of the window is drawn with equal probability"
                )
