"""Mutation run: change one thing at a time in the code that must not be wrong, and look whether a test fails.

    python -m tests.mutants                                        a sample of every file of `TESTS`
    python -m tests.mutants --sample 0 service/transport/auth.py   all mutants of one file
    python -m tests.mutants --again                                forget the results of earlier runs

Mutmut makes the mutants, finds the tests that reach a function, and runs them in a forked process. It writes to
`mutants/`. A run that was stopped goes on where it was: mutants of a function that did not change keep their result,
those that no test noticed only while the file's tests stay the same. A larger sample contains the smaller one of the
same seed.

Mutmut's own operators change numbers, comparisons, strings, arguments and assignments; `ADDED` has operators for what
it leaves alone. Mutmut mutates no decorated function, and here no text with a space in it: tests look at a part of a
message only.

The tests run without the import hook that checks annotations: otherwise this hook kills mutants that nothing refuses
in production.
"""

import argparse
import functools
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import libcst as cst
from mutmut import __main__ as mutmut
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.mutators import mutation_operators, operator_string
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.stats import status_by_exit_code


def tests_of(folder: str, *names: str) -> list[str]:
    """Paths of test files."""
    return [f"tests/{folder}/test_{name}.py" for name in names]


RECORD = tests_of("models/contract", "record", "row_counts")
PUBLISH = tests_of(
    "builder/publish", "lost_answer", "generations", "blue_green", "lost_answers", "rolling"
)
TESTS: dict[str, list[str]] = {
    "service/scoring/admission.py": tests_of("service/scoring", "admission"),
    "service/transport/auth.py": tests_of("service/transport", "auth"),
    "models/contract/record.py": RECORD,
    "models/contract/tensor_bytes.py": RECORD,
    "service/state/byte_lru.py": tests_of("service/state", "byte_lru"),
    "service/state/build.py": tests_of(
        "service/state", "local_cache", "lookup", "prefetch", "counters"
    ),
    "service/state/device_tier.py": tests_of(
        "service/state", "device_tier", "local_cache", "counters"
    ),
    "service/state/local_cache.py": tests_of("service/state", "local_cache", "read_time", "lookup"),
    "service/state/cached_user.py": tests_of(
        "service/state", "local_cache", "cached_user", "lookup"
    ),
    "service/state/counters.py": tests_of("service/state", "counters", "prefetch"),
    "service/state/prefetch.py": tests_of("service/state", "read_time", "prefetch"),
    "service/state/lookup.py": tests_of(
        "service/state", "local_cache", "read_time", "cached_user", "lookup"
    ),
    "builder/publish/cache.py": tests_of("builder/publish", "cache", "lost_answer"),
    "builder/publish/capacity.py": tests_of("builder/publish", "capacity", "lost_answers"),
    "builder/publish/default_model.py": [
        *tests_of("builder/publish", "lost_answers"),
        *tests_of("service/generations", "default_model"),
    ],
    "builder/publish/lock.py": tests_of("builder/publish", "lock", "blue_green", "lost_answers"),
    "builder/publish/records.py": tests_of("builder/publish", "records", "blue_green", "cache"),
    "builder/publish/services.py": [
        *tests_of("builder/publish", "rolling", "lost_answers"),
        *tests_of("service/generations", "publish_waits", "heartbeat"),
    ],
    "builder/publish/status.py": tests_of("builder/publish", "status", "lost_answers"),
    "builder/publish/generations.py": PUBLISH,
    "builder/publish/blue_green.py": PUBLISH,
    "builder/publish/rolling.py": tests_of("builder/publish", "rolling", "lost_answers"),
    "service/scoring/pipeline.py": [
        *tests_of("service/scoring", "pipeline", "comparison", "comparison_failures"),
        *tests_of("service/http", "middleware"),
        *tests_of("service/experiments", "shadow", "split"),
        *tests_of("service/state", "prefetch", "cached_user"),
    ],
}
"""Mutated file -> its tests. No test that starts whole programs: it would take a minute per mutant."""

SWAPS = {"min": "max", "max": "min", "all": "any", "any": "all", "ceil": "floor", "floor": "ceil"}
CAUGHT = {"killed", "timeout"}
SUMS = Path("mutants/sums.json")
KEPT = {".meta", ".tests"}
HEADER = f"{'file':40} {'made':>5} {'run':>5} {'killed':>6} {'left':>5}"
Counts = Counter[str]
IS_TERMINAL = sys.stdout.isatty()


def swapped_function(node: cst.Call) -> Iterator[cst.Call]:
    """`min(…)` -> `max(…)`, `math.ceil(…)` -> `math.floor(…)`."""
    name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
    if isinstance(name, cst.Name) and name.value in SWAPS:
        yield node.with_deep_changes(name, value=SWAPS[name.value])


def handler_that_catches_nothing(node: cst.ExceptHandler) -> Iterator[cst.ExceptHandler]:
    """`except SomeError:` -> `except ():`."""
    if node.type is not None:
        yield node.with_changes(type=cst.Tuple([]), name=None)


def removed_statement(node: cst.SimpleStatementLine) -> Iterator[cst.SimpleStatementLine]:
    """A call, a raise or an update of a counter -> `pass`."""
    statement = node.body[0]
    is_docstring = isinstance(statement, cst.Expr) and isinstance(
        statement.value, cst.SimpleString | cst.ConcatenatedString
    )
    if isinstance(statement, cst.Expr | cst.Raise | cst.AugAssign) and not is_docstring:
        yield node.with_changes(body=[cst.Pass()])


def negated_condition(node: cst.If | cst.While) -> Iterator[cst.If | cst.While]:
    """`if x:` -> `if not (x):`."""
    test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    yield node.with_changes(
        test=cst.UnaryOperation(cst.Not(whitespace_after=cst.SimpleWhitespace(" ")), test)
    )


def name_or_key(node: cst.BaseString) -> Iterator[cst.BaseString]:
    """As mutmut's own operator, without prose."""
    if not isinstance(node, cst.SimpleString) or " " not in node.value:
        yield from operator_string(node)


ADDED: list[tuple[type, Callable[[Any], Iterator[cst.CSTNode]]]] = [
    (cst.BaseString, name_or_key),
    (cst.Call, swapped_function),
    (cst.ExceptHandler, handler_that_catches_nothing),
    (cst.SimpleStatementLine, removed_statement),
    (cst.If, negated_condition),
]


def sampled(size: int, seed: int, chosen: list[str]) -> Callable[..., Any]:
    """`collect_source_file_mutation_data` for `size` mutants per file, 0: for all; their names go into `chosen`."""
    collect = mutmut.collect_source_file_mutation_data

    def collect_sample(*, mutant_names: tuple[str, ...]) -> Any:
        mutants, by_path = collect(mutant_names=mutant_names)
        sample = []
        for data in by_path.values():
            mine = sorted((one for one in mutants if one[0] is data), key=lambda one: str(one[1]))
            random.Random(f"{seed} {data.path}").shuffle(mine)
            sample += mine[: size or None]
        chosen[:] = [name for _, name, _ in sample]
        return sample, by_path

    return collect_sample


def progress(chosen: list[str]) -> Callable[..., None]:
    """`print_stats` for the chosen mutants: one line, which a terminal shows in place of the one before."""
    began_s, first, shown = time.monotonic(), -1, -1

    def print_progress(
        by_path: dict[str, SourceFileMutationData], force_output: bool = False
    ) -> None:
        nonlocal first, shown
        codes = {
            name: code for data in by_path.values() for name, code in data.exit_code_by_key.items()
        }
        run = [status_by_exit_code[codes[name]] for name in chosen if codes[name] is not None]
        if len(run) == shown:
            return
        first = len(run) if first < 0 else first
        shown = len(run)
        left = sum(end not in CAUGHT for end in run)
        pace_s = (time.monotonic() - began_s) / max(1, len(run) - first)
        rest = (
            f", {pace_s * (len(chosen) - len(run)) / 60:.0f} min to go" if len(run) > first else ""
        )
        print(
            f"{len(run)} of {len(chosen)} run, {left} left{rest}",
            flush=True,
            end="    \r" if IS_TERMINAL else "\n",
        )

    return print_progress


def fastest_first(tests: Iterable[str]) -> list[str]:
    """The tests file by file, so that each file's server starts once; mutmut would pass them in any order."""
    seconds = state().duration_by_test
    of_file: dict[str, float] = {}
    for test in tests:
        file = test.partition("::")[0]
        of_file[file] = of_file.get(file, 0) + seconds.get(test, 0)

    def order(test: str) -> tuple[float, str, float]:
        file = test.partition("::")[0]
        return of_file[file], file, seconds.get(test, 0)

    return sorted(tests, key=order)


@functools.cache
def title(text: str) -> None:
    """`print_status` where the output is a file: each step once, without a spinner."""
    print(text, file=sys.__stdout__, flush=True)


def report(chosen: list[str]) -> Counts:
    """Print the counts of each file, then the diff of each chosen mutant that no test noticed; return the sums."""
    print(f"\n{HEADER}")
    sums: Counts = Counter()
    left: list[tuple[SourceFileMutationData, str]] = []
    for path in sorted(mutmut.walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        codes = data.exit_code_by_key
        run = [name for name in chosen if codes.get(name) is not None]
        mine = [name for name in run if status_by_exit_code[codes[name]] not in CAUGHT]
        left += [(data, name) for name in mine]
        counts = {"made": len(codes), "run": len(run), "killed": len(run) - len(mine)}
        sums.update(counts)
        print(row(str(path), Counter(counts)))
    for data, name in left:
        print(f"\n{name}: {status_by_exit_code[data.exit_code_by_key[name]]}")
        print(get_diff_for_mutant(name, path=data.path))
    return sums


def row(name: str, counts: Counts) -> str:
    """A line of the table."""
    left = counts["run"] - counts["killed"]
    return f"{name:40} {counts['made']:5} {counts['run']:5} {counts['killed']:6} {left:5}"


def forget(file: str, is_again: bool) -> None:
    """Remove what earlier runs made, but not the results that still hold."""
    for path in Path("mutants").rglob("*"):  # mutmut takes an older run's copies for its own
        if path.is_file() and (is_again or path.suffix not in KEPT):
            path.unlink()
    tests = hashlib.sha256(b"".join(Path(one).read_bytes() for one in TESTS[file])).hexdigest()
    of_results = Path("mutants", f"{file}.tests")
    data = SourceFileMutationData(path=file)
    data.load()
    if data.exit_code_by_key and (not of_results.exists() or of_results.read_text() != tests):
        for name, code in data.exit_code_by_key.items():
            if status_by_exit_code[code] not in CAUGHT:
                data.exit_code_by_key[name] = None
        data.save()
    of_results.parent.mkdir(parents=True, exist_ok=True)
    of_results.write_text(tests)


def run_file(file: str, sample: int, seed: int, is_again: bool) -> Counts:
    """Run the mutants of one file, and print their report; return its sums."""
    forget(file, is_again)
    chosen: list[str] = []
    config().only_mutate = [file]
    config().pytest_add_cli_args_test_selection = TESTS[file]
    own = [one for one in mutation_operators if one[1] is not operator_string]
    mutation_operators[:] = [*own, *ADDED]
    mutmut.collect_source_file_mutation_data = sampled(sample, seed, chosen)
    mutmut.print_stats = progress(chosen)
    if not IS_TERMINAL:
        mutmut.print_status = title
    in_any_order = PytestRunner._pytest_args_regular_run
    PytestRunner._pytest_args_regular_run = lambda runner, tests: in_any_order(
        runner, fastest_first(tests)
    )
    mutmut._run((), max_children=1)
    return report(chosen)


def run_files(files: list[str], options: list[str]) -> None:
    """Run the mutants of each file in a process of its own: mutmut imports the code that it changes."""
    rows: dict[str, Counts] = {}
    for number, file in enumerate(files, 1):
        print(f"\n{file}: {number} of {len(files)} files", flush=True)
        command = [sys.executable, "-m", "tests.mutants", file, *options]
        if subprocess.run(command).returncode == 0:
            rows[file] = Counter(json.loads(SUMS.read_text()))
    print(f"\n{HEADER}")
    for file, counts in rows.items():
        print(row(file, counts))
    sums = sum(rows.values(), Counter())
    share = 100 * sums["killed"] / max(1, sums["run"])
    print(f"{row('all', sums)}\n{share:.1f} % killed")
    if failed := [file for file in files if file not in rows]:
        sys.exit(f"not run, as said above: {', '.join(failed)}")


def main() -> None:
    """Run the files that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", default=list(TESTS), help="all by default")
    parser.add_argument("--sample", type=int, default=60, help="mutants of each file; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--again", action="store_true", help="forget the results of earlier runs")
    given = parser.parse_args()
    if unknown := sorted({*given.files} - {*TESTS}):
        parser.error(f"{', '.join(unknown)}: expected files of tests/mutants.py")
    if len(given.files) == 1:
        sums = run_file(given.files[0], given.sample, given.seed, given.again)
        SUMS.write_text(json.dumps(sums))
        return
    options = [f"--sample={given.sample}", f"--seed={given.seed}"]
    if given.again:
        shutil.rmtree("mutants", ignore_errors=True)
    run_files(given.files, options)


if __name__ == "__main__":
    main()
