"""Which column is the user, the item, the label and so on, by names and by values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from builder.errors import EventsError
from builder.propose.clock import Clock, find_clock
from builder.propose.looks import Look, Seen
from builder.propose.words import Role, is_named, kind_of, rank_of, words_of
from models.contract.errors import did_you_mean

ID_WORDS = {
    "id",
    "ids",
    "key",
    "no",
    "nr",
    "number",
    "code",
    "hash",
    "click",
    "clicked",
    "fk",
    "raw",
    "s",
}
"""Words that the name of an id may have beside the one that says whose id it is."""
MOST_KINDS = 40
MOST_RATINGS = 101


@dataclass(frozen=True)
class Given:
    """Columns that the person who starts `absorb init` named; None: not named. "" as time: there is none."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Roles:
    """What each column is.

    Attributes:
        user: column of the user.
        item: column of the item.
        clock: column of the time, and how it is written.
        label: column of zeros and ones; None where there is none.
        rating: column of ratings.
        kind: column of kinds of events.
        quantity: column of pieces.
        lists: columns that name a list, a basket or a session.
        others: columns without a role.
        why: role -> what was seen.
    """

    user: str
    item: str
    clock: Clock
    label: str | None
    rating: str | None
    kind: str | None
    quantity: str | None
    lists: tuple[str, ...]
    others: tuple[str, ...]
    why: Mapping[str, str] = field(default_factory=dict)


def find_roles(seen: Seen, given: Given) -> Roles:
    """Guess the role of each column.

    Raises:
        EventsError: a named column is missing, or no column is the user's or the item's id.
    """
    for option in ("user", "item", "time", "label"):
        _require(seen, option, getattr(given, option))
    clock = find_clock(seen, given.time)
    taken = {clock.column}
    user = given.user or _id(seen, "user", taken)
    item = given.item or _id(seen, "item", taken | {user})
    taken |= {user, item}
    label = given.label if given.label and not _is_rating(seen.look(given.label)) else None
    rating = given.label if given.label and label is None else None
    if given.label is None:
        label = _first(seen, "label", taken, _is_label)
        rating = None if label else _first(seen, "rating", taken, _is_rating)
    # Labels and ratings say more than kinds do.
    kind = None if label or rating else _first(seen, "kind", taken, _is_kind)
    quantity = _first(
        seen, "quantity", taken | {label, rating}, lambda look: look.kind == "integer"
    )
    found = {name for name in (*taken, label, rating, kind, quantity) if name}
    rest = [look for look in seen.looks if look.name not in found]
    lists = [look.name for look in rest if _names_lists(seen, look)]
    others = [look.name for look in rest if look.name not in lists]
    return Roles(user, item, clock, label, rating, kind, quantity, tuple(lists), tuple(others))


def _require(seen: Seen, option: str, name: str | None) -> None:
    known = [look.name for look in seen.looks]
    if name and name not in known:
        expected = f"expected a column of the log: {', '.join(known)}{did_you_mean(name, known)}"
        raise EventsError(str(seen.path), f"--{option}: got {name!r}, {expected}")


def _id(seen: Seen, role: Role, taken: set[str]) -> str:
    """The column whose name says best that it is an id of users, or of items."""
    found = [
        (rank, look.name)
        for look in seen.looks
        if look.name not in taken
        and look.kind in ("integer", "text")
        and look.rows
        and (rank := rank_of(look.name, role)) is not None
        and _extra_words(look.name, role) <= ID_WORDS
    ]
    if found:
        return min(found)[1]
    lists = [look.name for look in seen.looks if look.kind == "list"]
    hint = (
        f"; {', '.join(lists)} hold lists: a log has one row per event, so explode them first"
        if lists
        else ""
    )
    columns = ", ".join(f"{look.name} ({look.kind})" for look in seen.looks)
    whose = "a user" if role == "user" else "an item"
    expected = f"expected one, or its name: --{role} COLUMN{hint}"
    problem = f"got no column that looks like the id of {whose} among {columns}; {expected}"
    raise EventsError(str(seen.path), problem)


def _extra_words(name: str, role: Role) -> set[str]:
    return {word for word in words_of(name) if rank_of(word, role) is None}


def _first(
    seen: Seen, role: Role, taken: set[str] | set[str | None], fits: Callable[[Look], bool]
) -> str | None:
    found = [
        (rank, look.name)
        for look in seen.looks
        if look.name not in taken and (rank := rank_of(look.name, role)) is not None and fits(look)
    ]
    return min(found)[1] if found else None


def _is_label(look: Look) -> bool:
    if look.kind == "flag":
        return True
    return look.kind == "integer" and look.distinct == 2 and (look.low, look.high) == (0, 1)


def _is_rating(look: Look) -> bool:
    is_number = look.kind in ("integer", "float")
    return is_number and 2 < look.distinct <= MOST_RATINGS and look.high <= 100


def _is_kind(look: Look) -> bool:
    if look.kind != "text" or not 2 <= look.distinct <= MOST_KINDS:
        return False
    return _extra_words(look.name, "kind") <= {"name", "id", "user", "log"}


def _names_lists(seen: Seen, look: Look) -> bool:
    is_id = look.kind in ("integer", "text") and _extra_words(look.name, "list") <= ID_WORDS
    return is_id and is_named(look.name, "list") and look.distinct > MOST_KINDS


def sort_kinds(names: Sequence[str]) -> dict[str, list[str]]:
    """Kinds of events by what they are: "cancel", "negative", "positive", "history", "unknown".

    Where no name says that something was bought, the strongest sign of interest is the positive.
    """
    sorted_names: dict[str, list[str]] = {
        key: [] for key in ("cancel", "negative", "positive", "history", "unknown")
    }
    for name in names:
        sorted_names[kind_of(name) or "unknown"].append(name)
    if not sorted_names["positive"] and sorted_names["history"]:
        strongest = min(sorted_names["history"], key=_strength)
        sorted_names["history"].remove(strongest)
        sorted_names["positive"].append(strongest)
    return sorted_names


def _strength(name: str) -> int:
    from builder.propose.words import KINDS

    return next(place for place, part in enumerate(KINDS["history"]) if part in name.lower())
