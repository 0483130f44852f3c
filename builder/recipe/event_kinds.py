"""The section `[data.event_kinds]`: what each kind of event means to the model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated

from builder.recipe.limits import Interval


@dataclass(frozen=True)
class EventKinds:
    """What each kind of event in a log means. Every kind that the log has must be in one of the lists."""

    column: str
    """Column of the events with the kind."""
    positive: tuple[str, ...]
    """Kinds that are targets with label 1, such as "purchase". They stand in histories."""
    negative: tuple[str, ...] = ()
    """Kinds that are targets with label 0, such as "impression" or "dislike". They stand in no history. Empty:
    negatives are drawn."""
    history: tuple[str, ...] = ()
    """Kinds that stand in histories and are no targets, such as "view". Drawn negatives may come from them."""
    cancel: tuple[str, ...] = ()
    """Kinds that cancel the user's latest earlier positive of the same item, such as "return": neither is kept, not
    even in histories of the time between them."""
    drop: tuple[str, ...] = ()
    """Kinds that are left out."""
    weights: dict[str, Annotated[float, Interval(gt=0)]] = field(default_factory=dict)
    """Kind -> weight of its targets in the loss, and of the negatives that are drawn for them. Others have 1. Metrics
    count every target alike."""

    def __post_init__(self) -> None:
        if not self.positive:
            raise ValueError("positive: got no kind, expected at least one")
        lists = self.roles()
        for name, role in ((name, role) for role, names in lists.items() for name in names):
            twice = [other for other, names in lists.items() if name in names and other != role]
            if twice:
                raise ValueError(
                    f"{role}: got {name!r}, which is in {twice[0]} too, expected one list"
                )
        for name in self.weights:
            if name not in (*self.positive, *self.negative):
                raise ValueError(
                    f"weights.{name}: got a kind that is no target, expected one of positive or negative"
                )

    def roles(self) -> Mapping[str, tuple[str, ...]]:
        """Each list by its key."""
        keys = ("positive", "negative", "history", "cancel", "drop")
        return {key: getattr(self, key) for key in keys}

    def known(self) -> list[str]:
        """All kinds that are in a list."""
        return list(chain.from_iterable(self.roles().values()))


def kind_problems(
    kinds: EventKinds | None, has_labels: bool, has_pools: bool, drops_repeats: bool
) -> list[str]:
    """Keys that contradict kinds of events, one sentence each.

    Args:
        kinds: the section; None: the recipe has none.
        has_labels: the recipe names a column of labels or ratings.
        has_pools: the log knows the candidates of each request.
        drops_repeats: `data.drop_repeats`.
    """
    if kinds is None:
        return []
    problems = []
    if has_labels:
        problems.append(
            "data.columns.label: got a column beside data.event_kinds, expected one of them"
        )
    if has_pools:
        problems.append("data.pools: got pools beside data.event_kinds, expected one of them")
    if drops_repeats:
        problems.append(
            "data.drop_repeats: got true beside data.event_kinds, expected false: a view would drop the later purchase"
        )
    return problems
