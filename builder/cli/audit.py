"""`absorb audit` on the command line: the build's step, with its table; or a part of it, or its JSON."""

import json
from contextlib import nullcontext, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.catalogue import NIGHTLY
from builder.cli.options import DEFAULT_RECIPE, RUNS, RecipePath, Runs, make_build
from builder.cli.progress_bar import bar, console
from builder.cli.run_log import run_log
from builder.progress import silent
from models.command_line import EXIT_CODES
from models.contract.errors import did_you_mean

if TYPE_CHECKING:
    from builder.audit.report import Audit
    from builder.dataset.batches import Part
    from builder.pipeline import Build

app = typer.Typer()
ROWS = 25
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--part", help="look at this part alone (repeatable): train, validate, test; default: all"
    ),
]
Slates = Annotated[
    int | None,
    typer.Option(min=1, help="most slates to sample in each part; default: 4000, as in a build"),
]
Rows = Annotated[int, typer.Option(min=1, help="rows of the table; all that fail are always shown")]
AsJson = Annotated[bool, typer.Option("--json", help="print everything as JSON, and no table")]


@app.command(
    "audit",
    rich_help_panel=NIGHTLY,
    epilog=f"Example: absorb audit builder/recipes/tiny.toml --part test\n\n{EXIT_CODES}",
)
def audit(
    recipe: RecipePath = DEFAULT_RECIPE,
    part: Parts = None,
    slates: Slates = None,
    rows: Rows = ROWS,
    as_json: AsJson = False,
    runs: Runs = RUNS,
) -> None:
    r"""Look for rules that give labels away: a build with such a rule stops here.

    A rule is a question that any model can answer: is the item in the history, is it unknown to training, how often
    and how long ago was it taken, where does it stand in the slate, what is the value of each field? For each answer,
    the table shows how many targets it holds for and which share of them is positive, with the 95 % interval. "Item in
    history: yes" with 100 % positives means that a model needs to learn nothing else, and that its AUC says nothing.

    A rule fails if it holds for 1 % of the targets (or of one class) and the other class is a hundred times rarer
    among them than among all targets. Mend the recipe as the error says, or allow the rule with a reason:

    [\[audit.allow]] rule = "item in history" reason = "The paper's protocol, kept to compare with it."

    The reason is then printed beside every metric. The log is ingested first if that is due. Without --part and
    --slates, the result is the build's step: audit.json and audit.md in the run's folder.
    """
    parts = [_part(name) for name in part or ()]
    made = make_build(recipe, runs)
    with made.folder.locked(), run_log(made.folder):
        found = _look(made, parts, slates, as_json)
    if as_json:
        console.print_json(json.dumps(asdict(found)))
    else:
        _print(found, rows)
    found.require_no_leak()
    if not as_json:
        console.print("[green]✓[/] no rule gives labels away", highlight=False)


def _look(build: "Build", parts: list["Part"], slates: int | None, as_json: bool) -> "Audit":
    """Ingest if it is due, then run the audit: as the build's step unless it is restricted."""
    from builder.audit.report import Audit
    from builder.audit.run import PARTS, SLATES
    from builder.audit.run import audit as audit_parts
    from builder.cli.steps import do_step
    from builder.errors import LeakError
    from builder.pipeline import is_due, run_step

    do = run_step if as_json else do_step
    if is_due(build, "ingest"):
        do(build, "ingest")
    if not parts and slates is None:
        with suppress(LeakError):  # raised again below the table
            do(build, "audit")
        return Audit.load(build.folder.path)
    with nullcontext(silent) if as_json else bar("audit") as progress:
        return audit_parts(build.events(), build.recipe, parts or PARTS, slates or SLATES, progress)


def _part(name: str) -> "Part":
    from builder.audit.run import PARTS

    for part in PARTS:
        if part == name:
            return part
    expected = f"expected one of: {', '.join(PARTS)}{did_you_mean(name, PARTS)}"
    raise typer.BadParameter(f"got {name!r}, {expected}", param_hint="--part")


def _print(found: "Audit", rows: int) -> None:
    from builder.cli.audit_table import checks_table, findings_table

    console.print(findings_table(found, rows, console.width))
    console.print(checks_table(found))
