"""Why a rule usually gives labels away, and what mends it: the part of the audit's error that teaches."""

from builder.audit.checks import POPULARITY, VALUES
from builder.audit.rules import IN_HISTORY
from builder.audit.slate_checks import CONSTANT, DUPLICATES, HISTORIES

NEVER_AGAIN = (
    "negatives are the user's own items again, while positives never are: nothing is taken twice in this log",
    'set negatives.exclude = "past"',
)
FUTURE = (
    "negatives leave out every item that the user takes, also before or after the target: what is left in a history "
    "can only be a positive",
    'set negatives.exclude = "slate" (only the items of the target\'s own time are left out); or negatives.own_past',
)
CAUSES: dict[str, tuple[str, str]] = {
    "item unknown to training": (
        "negatives for training are drawn from items that only later events have, or the pools hold items that could "
        "not be bought yet",
        "draw negatives and pools from what existed at the target's time; see data.pools and [negatives]",
    ),
    "popularity of the item": (
        "candidates are drawn from items without events, or in proportion to another popularity than the positives'",
        "set negatives.popularity_power nearer to 1, or leave items that were never taken out of the pools",
    ),
    "position in the slate": (
        "the log lists the positives of a slate at fixed places, so that the order of its rows tells the label",
        "write the rows in the order in which they were shown; or put the place into data.candidate_fields only if the "
        "request knows it",
    ),
    "position in the pool": (
        "a range of the catalogue is in the pools, but could not be bought: items that were never sold there",
        "leave such items out of the pools (data.pools)",
    ),
    "order of item rows": (
        "item ids were given out by label or by time, or a range of the catalogue could not be bought",
        "leave out the items that could not be a positive, in data.items or data.pools",
    ),
    "events in the history": (
        "positives and negatives come from different users or times",
        "set history.min_events, or draw both from the same slates",
    ),
    "user in training": (
        "users that training does not know differ in their labels from the others",
        "split by time, or look for two kinds of users in the log",
    ),
    "age of the latest event with the item": (
        "the history holds the target itself, or an event that the target caused, written a moment earlier",
        "give such events the target's own time: histories end strictly before it",
    ),
    HISTORIES: (
        "the history holds events at or after the target's time",
        "check data.columns.time and data.time_unit, and that the events are sorted by time",
    ),
    DUPLICATES: (
        "the log holds the same slates twice, under another time or another user id",
        "remove the copies from data.events",
    ),
    POPULARITY: (
        "popularity was counted over validation and test days",
        "ingest again (`absorb ingest`); own popularity columns must be counted before [split] validate_from",
    ),
    VALUES: (
        "ids were given to values that only validation or test events have",
        "ingest again (`absorb ingest`)",
    ),
    CONSTANT: (
        "the log joins two kinds of users, such as buyers and visitors: who the user is tells the label",
        "keep users whose slates have both labels, or leave out the user fields",
    ),
}
BY_KIND = {
    "context ": (
        "the field was computed from the label or after the click: a request does not have it",
        "remove it from data.context_fields",
    ),
    "candidate ": (
        "the field was written after the click, or for the clicked candidates only",
        "remove it from data.candidate_fields",
    ),
    "user ": (
        "the field was computed over the whole time, labels of validation and test included",
        "remove it from data.user_fields",
    ),
    "item ": (
        "the field was computed from labels, or its items cannot be a positive",
        "remove it from data.item_fields, or leave those items out",
    ),
}
"""Begin of a rule's name -> cause and remedy."""


def cause_of(rule: str, is_positive: bool) -> tuple[str, str]:
    """Likely cause of a failure, and what mends it.

    Args:
        rule: name of the rule or check.
        is_positive: the rule's targets are positives.
    """
    if rule == IN_HISTORY or rule.endswith(" in history"):
        return FUTURE if is_positive else NEVER_AGAIN
    if rule in CAUSES:
        return CAUSES[rule]
    for begin, cause in BY_KIND.items():
        if rule.startswith(begin):
            return cause
    return ("the targets of this rule were chosen by their label", "look at how the log was made")
