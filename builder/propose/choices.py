"""What a recipe says of split, history, negatives, model and training, by what the log holds."""

from builder.propose.facts import LENGTHS, Facts
from builder.propose.text import Line, comment

HISTORY_LENGTHS = (32, 64, 128, 256, 512)
"""Longer ones may be worth their cost; the recipe shows what is lost."""
KEPT = 0.9
"""Share of all events that stand in a history of the suggested length."""
FEW_TARGETS = 200
REPEATS = 0.03
"""Share of events with an item that its user took before, from which on repeats are choices of their own."""
WINDOW_EVENTS = 2_000
"""Events from which a negative is drawn, at least."""
WINDOWS_H = (1, 6, 24, 168, 720)
SPLITS = ((0.8, 0.9), (0.6, 0.8), (0.4, 0.7))


def history_length(facts: Facts) -> int:
    """The shortest of `HISTORY_LENGTHS` that keeps `KEPT` of the events."""
    for length in HISTORY_LENGTHS:
        if 1 - facts.truncated(length)[1] >= KEPT:
            return length
    return HISTORY_LENGTHS[-1]


def min_events(facts: Facts) -> int:
    """Events that a target needs before it: a few where most users have many; none where there are no histories."""
    if not facts.days:
        return 0
    median = sorted(facts.lengths)[len(facts.lengths) // 2] if len(facts.lengths) else 0
    return 5 if median >= 20 else 1


def history(facts: Facts) -> list[Line]:
    """The section `[history]`."""
    length = history_length(facts)
    lines = []
    for shown in sorted({*LENGTHS, length}):
        users, events = facts.truncated(shown)
        lines.append(
            comment(
                f"L = {shown:,}: {users:.1%} of users have more events, which lose {events:.1%} of all events"
            )
        )
    ordered = sorted(facts.lengths)
    median, most = ordered[len(ordered) // 2], ordered[-1]
    return [
        *lines,
        Line("length", length, f"a user has {median:,} positives (median), at most {most:,}"),
        Line("recent", min(32, length), "latest events that a request may send itself"),
        Line("min_events", min_events(facts), "targets with fewer events before them are left out"),
    ]


def split(facts: Facts) -> list[Line]:
    """The section `[split]`: by time, with enough targets to test on; without times at random."""
    if not facts.days:
        why = "without different times only a split at random is possible: it says nothing of tomorrow"
        return [Line("validate_events", 0.1, why), Line("test_events", 0.1, "")]
    least = min_events(facts)
    for validate, test in SPLITS:
        counts = [
            facts.targets(low, high, least)
            for low, high in ((0.0, validate), (validate, test), (test, 1.0))
        ]
        if min(counts) >= FEW_TARGETS:
            break
    few = "" if min(counts) >= FEW_TARGETS else " FEW: metrics will be noise"
    return [
        Line(
            "train_from",
            0.0,
            f"shares of the events by time; {counts[0]:,} positive targets to train on",
        ),
        Line("validate_from", validate, f"{counts[1]:,} positive targets.{few}"),
        Line("test_from", test, f"{counts[2]:,} positive targets.{few}"),
    ]


def negatives(facts: Facts, drops_repeats: bool) -> list[Line]:
    """The section `[negatives]`, for a log where every event is a positive."""
    seen = f"{facts.repeats:.1%} of events have an item that their user took before"
    lines = [
        comment("the log has positives alone: negatives are drawn, see docs/concepts/protocols.md")
    ]
    if not facts.days:
        return [*lines, Line("exclude", "past", "no item is a negative of a user that took it")]
    if drops_repeats:
        lines.append(Line("exclude", "past", f"{seen}: an item of the history is no candidate"))
    else:
        lines.append(Line("exclude", "slate", f"{seen}: an item may be taken again"))
        lines.append(
            Line("own_past", 0.5, "half of them from the user's own past, as often as it was taken")
        )
    hours = window_hours(facts)
    return [
        *lines,
        Line(
            "window_hours",
            hours,
            "drawn from what all users took just before, as often as they took it",
        ),
        Line("same_category", 0.0, "needed by window_hours"),
        Line("popularity_power", 1.0, "needed by window_hours"),
    ]


def window_hours(facts: Facts) -> int:
    """The shortest window with enough events in it; of days where times are days."""
    per_hour = facts.positives / max(1.0, 24 * facts.days)
    least = 168 if facts.has_days_only else 1
    fitting = [hours for hours in WINDOWS_H if hours >= least and hours * per_hour >= WINDOW_EVENTS]
    return fitting[0] if fitting else WINDOWS_H[-1]


def model(facts: Facts) -> list[Line]:
    """The section `[model]`: sizes by the number of positives."""
    if not facts.days:
        return [
            Line("name", "deep_fm", "without times there are no histories: a model of the fields"),
            Line("dim", 16, "width of each field's embedding"),
            Line("widths", [64, 32], "layers of the perceptron"),
        ]
    length, is_small = history_length(facts), facts.positives < 200_000
    why = f"{facts.positives:,} positives: {'much' if is_small else 'little'} dropout against overfitting"
    return [
        Line("name", "lrea", "attention to the whole history, from a state of a fixed size"),
        Line("slots", "items", "a slot for each different item of a history"),
        Line("counts", "slots", "and exact counts of the item and its fields"),
        Line("rank", length, "as many slots as the history is long: nothing is left out"),
        Line("dropout", 0.2 if is_small else 0.1, why),
        Line(
            "id_dropout",
            0.1 if is_small else 0.05,
            "share of item ids that training hides, so that fields are used",
        ),
        Line("id_rate", 0.3, "item ids learn slower than what they share"),
    ]


def train(facts: Facts) -> list[Line]:
    """The section `[train]`: by the number of positives."""
    steps = 1_000 if facts.positives < 100_000 else 3_000 if facts.positives < 3_000_000 else 10_000
    is_single = facts.per_slate < 1.5
    seen = f"a user has {facts.per_slate:.1f} positives at one time"
    return [
        Line("steps", steps, "at most; training ends earlier where validation stops improving"),
        Line("validate_every", steps // 20, ""),
        Line("slates_per_step", 192 if is_single else 48, f"{seen}"),
        Line("positives_per_slate", 2 if is_single else 8, ""),
        Line("learning_rate", 0.05, ""),
    ]
