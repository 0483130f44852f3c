"""`absorb load`: run the scenarios against a service, write percentiles and a plot, and compare with the limits."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtest.choices import some_of
from loadtest.machine import commit, describe_machine
from loadtest.report import Samples, markdown, plot, summarise, table
from loadtest.sample import sample_of
from loadtest.scenarios import SCENARIOS, Scenario
from loadtest.traffic import Sample
from models.command_line import run_app
from models.contract.errors import AbsorbError
from service.settings import read_settings
from service.tools.published import read_published
from service.tools.running_service import running_service

ROOT = Path(__file__).parent.parent
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
MAX_USERS = 100_000
STOP_LIMIT_S = 30
"""Time for the last answers after the last request, in seconds."""
OUT = Path("var/load")
NAMES = [scenario.name for scenario in SCENARIOS]
EXIT_CODES = (
    "Exit codes: 0 every limit was met, 1 one was not, 2 the load could not be run, or wrong usage."
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog=f"Example: absorb load --scenario open --model lrea\n\n{EXIT_CODES}")
def load(
    url: Annotated[
        str | None,
        typer.Option(help="URL of a running service; by default one is started and stopped"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="name of a published model; by default the service's default model"),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help=f"scenario to run, by default all: {', '.join(NAMES)}", callback=some_of(NAMES)
        ),
    ] = None,
    sample: Annotated[
        Path | None, typer.Option(help="users and items as JSON; by default those of the cache")
    ] = None,
    duration_s: Annotated[
        int | None,
        typer.Option(min=1, help="seconds of load; by default as each scenario says"),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the results")] = OUT,
) -> None:
    """Send scoring requests in a closed loop and on a schedule; fail if a p99 exceeds its limit or a request fails."""
    chosen = [
        replace(s, duration_s=duration_s or s.duration_s)
        for s in SCENARIOS
        if not scenario or s.name in scenario
    ]
    out.mkdir(parents=True, exist_ok=True)
    options = [f"--scenario {name}" for name in scenario or ()]
    options += [f"--duration-s {duration_s}"] if duration_s else []
    try:
        sample_path = sample or _sample_the_cache(out, model)
        with _service(url, out) as service_url:
            runs = [_run(s, service_url, sample_path, out) for s in chosen]
    except (AbsorbError, ValueError) as error:
        typer.echo(f"load: {error}", err=True)
        raise typer.Exit(2) from error
    facts = _facts(options, Sample.load(sample_path))
    raise typer.Exit(conclude(runs, out, facts))


def conclude(runs: list[tuple[Scenario, Samples]], out: Path, facts: Mapping[str, str]) -> int:
    """Write `<scenario>.json`, `load.md` and `latency.png`, print the table, return the exit code.

    Args:
        runs: scenarios and their latencies.
        out: folder of the files.
        facts: what the page says of command, machine and model: name -> text.
    """
    summaries = [summarise(scenario, samples) for scenario, samples in runs]
    for summary in summaries:
        (out / f"{summary['scenario']}.json").write_text(json.dumps(summary, indent=1))
    (out / "load.md").write_text(markdown(summaries, facts))
    plot(runs, out / "latency.png")
    Console().print(table(summaries))
    return 0 if all(summary["is_met"] for summary in summaries) else 1


def run_locust(scenario: Scenario, url: str, sample: Path, out: Path) -> Samples:
    """Run one scenario in a process of its own, because locust patches the standard library.

    Raises:
        ValueError: locust wrote no result.
    """
    written = out / f"{scenario.name}.samples.json"
    written.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE)),
        *("--headless", "--only-summary", "--host", url),
        *("--sample", str(sample.resolve()), "--samples-out", str(written.resolve())),
        *("--users", str(scenario.users or 1), "--spawn-rate", str(scenario.users or 1)),
        *("--stop-timeout", str(STOP_LIMIT_S)),
        # Locust's own exit code is ignored: the limits decide.
        *("--exit-code-on-error", "0"),
        *_loop(scenario),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not written.exists():
        raise ValueError(f"locust ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return Samples.from_json(json.loads(written.read_text()))


def _run(scenario: Scenario, url: str, sample: Path, out: Path) -> tuple[Scenario, Samples]:
    load = f"{scenario.users} users" if scenario.users else f"{scenario.rate_per_s:g} requests/s"
    Console().print(f"{scenario.name} loop: {load} for {scenario.duration_s:g} s, against {url} …")
    return scenario, run_locust(scenario, url, sample, out)


def _loop(scenario: Scenario) -> list[str]:
    duration_s = f"{scenario.duration_s:g}"
    if scenario.rate_per_s is None:
        return ["--run-time", f"{duration_s}s", "ClosedLoop"]
    return ["--duration-s", duration_s, "--rate-per-s", f"{scenario.rate_per_s:g}", "OpenLoop"]


def _facts(options: list[str], sample: Sample) -> dict[str, str]:
    fields = ", ".join(sample.candidate_fields) or "none"
    return {
        "Command": f"`{' '.join(['absorb load', *options])}`",
        "Machine": f"{describe_machine()}; service and generator on the same machine",
        "Made": f"{datetime.now(UTC):%Y-%m-%d} at {commit()}, load average {os.getloadavg()[0]:.1f} at the end",
        "Model": f"{sample.model}, {len(sample.users):,} users, {len(sample.items):,} items",
        "Candidate fields in the requests": fields,
    }


def _sample_the_cache(out: Path, model: str | None) -> Path:
    published = read_published(read_settings(), model, MAX_USERS)
    path = out / "sample.json"
    sample_of(published).save(path)
    return path


@contextmanager
def _service(url: str | None, out: Path) -> Iterator[str]:
    if url is not None:
        yield url.rstrip("/")
        return
    with running_service(out / "service.log") as started:
        yield started


if __name__ == "__main__":
    run_app(app, "python -m loadtest")
