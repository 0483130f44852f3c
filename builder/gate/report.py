"""The gate's report: what was compared, every check, the verdict; as JSON and as a page with a plot."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from builder.gate.checks import Check
from builder.gate.metrics import Measured
from builder.gate.rankings import Rankings

JSON, MARKDOWN, PLOT = "gate.json", "gate.md", "gate.png"
Verdict = Literal["passed", "refused", "first", "same", "off"]


@dataclass(frozen=True)
class GateReport:
    """What the gate found.

    Attributes:
        model: name under which the model is served.
        new: id of the new artifact.
        old: id of the serving artifact; None without one that can be read.
        verdict: "passed" or "refused"; "first": nothing to compare with, and the new model passes alone; "same": the
            artifact serves already; "off": the recipe has no gate.
        note: why there is no comparison; empty where there is one.
        checks: all checks.
        measured: metrics of both models; None where no target was scored.
        rankings: rank distances; None where they were not compared.
        is_forced: a refused model is published anyway (`--force`).
    """

    model: str
    new: str
    old: str | None
    verdict: Verdict
    note: str = ""
    checks: tuple[Check, ...] = ()
    measured: Measured | None = None
    rankings: Rankings | None = None
    is_forced: bool = False

    @property
    def may_publish(self) -> bool:
        """Whether the new artifact may be published."""
        return self.verdict != "refused" or self.is_forced

    @property
    def failures(self) -> list[Check]:
        """Checks that failed."""
        return [check for check in self.checks if not check.passed]

    def forced(self) -> "GateReport":
        """The same report of a model that is published whatever the verdict."""
        return replace(self, is_forced=self.verdict == "refused")

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON types."""
        return {
            **{name: getattr(self, name) for name in ("model", "new", "old", "verdict", "note")},
            "is_forced": self.is_forced,
            "checks": [asdict(check) for check in self.checks],
            "measured": None if self.measured is None else asdict(self.measured),
            "rankings": None if self.rankings is None else self.rankings.to_dict(),
        }

    def summary(self) -> dict[str, Any]:
        """What the step's stamp keeps."""
        names = [check.name for check in self.failures]
        kept = ("model", "new", "old", "verdict", "note", "is_forced")
        return {name: value for name, value in self.to_dict().items() if name in kept} | {
            "failed": names
        }

    def save(self, folder: Path) -> None:
        """Write `gate.json`, `gate.md` and, after a comparison, `gate.png`; the folder must exist."""
        from builder.gate.page import draw, page_lines  # it imports this module

        (folder / JSON).write_text(json.dumps(self.to_dict(), indent=1))
        (folder / MARKDOWN).write_text("\n".join(page_lines(self)) + "\n")
        (folder / PLOT).unlink(missing_ok=True)
        if self.measured is not None and self.measured.old is not None:
            draw(self, folder / PLOT)
