"""The page of a trial: every case with its verdict, and what the margins can see."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.experiments.gate_trial.run import Trial
from builder.experiments.gate_trial.spread import Row, as_json, table
from builder.experiments.report.markdown import markdown_table, write_report

HEADINGS = (
    "case",
    "what was done",
    "verdict",
    "exit code",
    "refused by",
    "log loss",
    "GAUC",
    "\\|ln PCOC\\|",
    "rank distance",
)
SPREAD = (
    "new model",
    "pairs",
    "fall of the GAUC",
    "rise of the log loss",
    "rise of \\|ln PCOC\\|",
    "refused by GAUC",
    "… by log loss",
    "… by calibration",
    "… by one of them",
)
SHOWN = ("log loss", "GAUC", "calibration", "rankings")


def write_trial(
    trial: Trial, rows: Sequence[Row], slates: int, command: str, out: Path
) -> list[Path]:
    """Write page and numbers of the verdicts that are there; return their paths.

    Args:
        trial: whose verdicts are read.
        rows: what the margins see; may be empty.
        slates: of each sample behind `rows`.
        command: that made the verdicts.
        out: folder, made if absent.
    """
    found = [trial.verdict(case) for case in trial.cases() if trial.place(case).is_file()]
    wrong = [one["case"] for one in found if one["verdict"] != one["expected"]]
    missing = [case.name for case in trial.cases() if not trial.place(case).is_file()]
    text = [
        f"# {trial.recipe.name}: bad models at the promotion gate",
        "",
        f"Made by `{command}`.",
        "",
        f"{len(found) - len(wrong)} of {len(found)} verdicts are right"
        + (f"; wrong: {', '.join(wrong)}." if wrong else "."),
        *([f"Not run: {', '.join(missing)}."] if missing else []),
        "",
        "Numbers are how much worse the new model is than the serving one (below 0: better), in brackets as a multiple",
        f"of the margin. The gate compared up to {trial.recipe.gate.slates:,} slates.",
        "",
        *markdown_table(HEADINGS, map(_cells, found)),
        "",
    ]
    if rows:
        text += [
            f"## What the margins see at {slates:,} slates",
            "",
            "Every ordered pair of seeds is an old and a new model, on random samples of the test slates. The first",
            "row that has the serving model's name is that of good retrains: what is refused there is refused falsely.",
            "± is the standard deviation over pairs and samples; that of PCOC, which is of all slates and without",
            "calibration, over pairs.",
            "",
            *markdown_table(SPREAD, table(rows)),
            "",
        ]
    numbers = {"command": command, "verdicts": found, "spread": as_json(rows)}
    return write_report(out, "gate", "\n".join(text), numbers)


def _cells(one: Mapping[str, Any]) -> list[str]:
    checks = {check["name"]: check for check in one["checks"]}
    is_wrong = one["verdict"] != one["expected"]
    verdict = f"**{one['verdict']}, expected {one['expected']}**" if is_wrong else one["verdict"]
    numbers = [_number(checks.get(name)) for name in SHOWN]
    failed = ", ".join(one["failed"])
    return [one["case"], one["about"], verdict, str(one["exit_code"]), failed, *numbers]


def _number(check: Mapping[str, Any] | None) -> str:
    if check is None or check["value"] is None:
        return ""
    share = f" ({check['value'] / check['limit']:.1f})" if check["limit"] else ""
    return f"{check['value']:+.4f}{share}"
