"""`python -m loadtest`: run the scenarios against a service, write percentiles and a plot, exit by the limits.

Exit code 0: every limit was met; 1: one was not; 2: the load could not be run.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from loadtest.report import Samples, plot, summarise, table
from loadtest.scenarios import SCENARIOS, Scenario
from loadtest.traffic import Sample
from models.contract.errors import AbsorbError
from service.settings import read_settings
from service.tools.published import read_published
from service.tools.running_service import running_service

ROOT = Path(__file__).parent.parent
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
MAX_USERS = 100_000
STOP_LIMIT_S = 30
"""Seconds that answers get after the last request."""


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    options = _parser().parse_args(arguments)
    chosen = [
        replace(s, duration_s=options.duration_s or s.duration_s)
        for s in SCENARIOS
        if s.name in (options.scenario or [s.name])
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        sample_path = options.sample or _sample_the_cache(options.out, options.model)
        with _service(options.url, options.out) as url:
            runs = [_run(scenario, url, sample_path, options.out) for scenario in chosen]
    except (AbsorbError, ValueError) as error:
        sys.stderr.write(f"loadtest: {error}\n")
        return 2
    return conclude(runs, options.out)


def conclude(runs: list[tuple[Scenario, Samples]], out: Path) -> int:
    """Write `<scenario>.json` and `latency.png`, print the table, return the exit code."""
    summaries = [summarise(scenario, samples) for scenario, samples in runs]
    for summary in summaries:
        (out / f"{summary['scenario']}.json").write_text(json.dumps(summary, indent=1))
    plot(runs, out / "latency.png")
    Console().print(table(summaries))
    return 0 if all(summary["is_met"] for summary in summaries) else 1


def run_locust(scenario: Scenario, url: str, sample: Path, out: Path) -> Samples:
    """Run one scenario in a process of its own, since locust patches the standard library.

    Raises:
        ValueError: locust wrote no result.
    """
    written = out / f"{scenario.name}.samples.json"
    written.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless",
        "--only-summary", "--host", url, "--sample", str(sample.resolve()),
        "--samples-out", str(written.resolve()), "--users", str(scenario.users or 1),
        "--spawn-rate", str(scenario.users or 1), "--stop-timeout", str(STOP_LIMIT_S),
        # Locust's own exit code says nothing here: the limits decide.
        "--exit-code-on-error", "0",
        *_loop(scenario),
    ]  # fmt: skip
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


def _sample_the_cache(out: Path, model: str | None) -> Path:
    published = read_published(read_settings(), model, MAX_USERS)
    vocabulary, schema = published.artifact.vocabulary, published.artifact.manifest.schema
    context = {name: list(values) for name, values in vocabulary.context.items() if values}
    name, length = published.generation.model, schema.recent_length
    path = out / "sample.json"
    Sample(name, published.users, list(vocabulary.items), context, length).save(path)
    return path


@contextmanager
def _service(url: str | None, out: Path) -> Iterator[str]:
    if url is not None:
        yield url.rstrip("/")
        return
    with running_service(out / "service.log") as started:
        yield started


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m loadtest", description=__doc__)
    parser.add_argument("--url", help="a running service; absent: one is started and stopped")
    parser.add_argument("--model", help="a published model; absent: the one the service takes")
    parser.add_argument(
        "--scenario", action="append", choices=[s.name for s in SCENARIOS], help="absent: all"
    )
    parser.add_argument("--duration-s", type=float, help="seconds of each load; absent: its own")
    parser.add_argument("--sample", type=Path, help="users and items as JSON; absent: the cache's")
    parser.add_argument("--out", type=Path, default=Path("var/load"), help="folder of the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
