"""What forgetting did: removed where, still to do, and left because it cannot be removed. It never names the user."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Line:
    """One row of the report.

    Attributes:
        where: key, stream, folder or file.
        what: what it held or holds.
        number: how many were removed; None where nothing is counted.
    """

    where: str
    what: str
    number: int | None = None


@dataclass
class Report:
    """The result for one user.

    Attributes:
        user: `tombstone` of the user.
        is_new: whether the user had no tombstone before.
        forgotten_s: epoch second of the tombstone.
        removed: what was removed.
        to_do: what could not be done now: run the command again.
        left: what cannot be removed, and what removes or replaces it.
    """

    user: str
    is_new: bool
    forgotten_s: int
    removed: list[Line] = field(default_factory=list)
    to_do: list[Line] = field(default_factory=list)
    left: list[Line] = field(default_factory=list)

    def add(self, where: str, what: str, number: int) -> None:
        """Add a row for what was removed, unless it is nothing."""
        if number:
            self.removed.append(Line(where, what, number))

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types."""
        return asdict(self)


def in_words(report: Report) -> str:
    """One line on what happened."""
    user = f"user {report.user[:12]}…"
    if report.to_do:
        return f"{user}: forgotten, but not everywhere: {len(report.to_do)} places are to be done again"
    if report.is_new:
        return f"{user}: forgotten"
    if any(line.number for line in report.removed):
        return f"{user}: was forgotten before; what was left of it is removed now"
    return f"{user}: was forgotten before, and nothing is left to remove"


def sections(report: Report) -> Sequence[tuple[str, Sequence[Line]]]:
    """Heading and rows of each part."""
    return (
        ("removed", report.removed),
        ("to be done again", report.to_do),
        ("cannot be removed here", report.left),
    )
