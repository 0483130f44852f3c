"""python -m builder.experiments.promotions: prepare, audit, train, baselines, report."""

import argparse
import sys
from pathlib import Path

from builder.experiments.promotions.prepared import Prepared


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m builder.experiments.promotions")
    commands = parser.add_subparsers(required=True)
    prepare = commands.add_parser("prepare", help="tables -> the task, with its audit")
    prepare.add_argument("--data", type=Path, help="folder of the tables; default: the package's")
    prepare.add_argument("--out", type=Path, required=True)
    prepare.add_argument(
        "--all-promoted", action="store_true", help="keep products that no store has sold before"
    )
    prepare.set_defaults(do=_prepare)
    train = commands.add_parser("train", help="train the rows of the comparison")
    _training_options(train)
    train.set_defaults(do=_train)
    baselines = commands.add_parser(
        "baselines", help="logistic regression and trees on the same visits"
    )
    baselines.add_argument("--prepared", type=Path, required=True)
    baselines.add_argument("--out", type=Path, required=True)
    baselines.add_argument("--visits", type=int, default=5000, help="training visits")
    baselines.add_argument("--test-visits", type=int, default=4096)
    baselines.set_defaults(do=_baselines)
    report = commands.add_parser("report", help="table and plots of finished trainings")
    report.add_argument("--runs", type=Path, required=True)
    report.add_argument("--prepared", type=Path, required=True)
    report.add_argument("--out", type=Path, required=True)
    report.set_defaults(do=_report)
    chosen = parser.parse_args(arguments)
    status: int = chosen.do(chosen)
    return status


def _training_options(train: argparse.ArgumentParser) -> None:
    train.add_argument("--prepared", type=Path, required=True)
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--device", choices=("cuda", "cpu"), required=True)
    train.add_argument("--minutes", type=float, required=True)
    train.add_argument("--workers", type=int, default=1)
    train.add_argument("--only", action="append", default=[], help="label (repeatable)")
    train.add_argument("--seeds", type=int, default=0, help="of each row; 0: as the row says")
    train.add_argument("--pack", type=Path, help="one tar of all results, rewritten now and then")
    train.add_argument("--test-visits", type=int, default=4096)
    train.add_argument("--length", type=int, default=0, help="L at most; 0: as the row says")
    for name in ("batch", "every", "patience", "most", "trial", "validation-visits"):
        train.add_argument(f"--{name}", type=int, help="of the budget")


def _prepare(chosen: argparse.Namespace) -> int:
    from builder.experiments.promotions.audit import audit, write_audit
    from builder.experiments.promotions.prepare import find_package, prepare

    prepared = prepare(chosen.data or find_package(), all_promoted=chosen.all_promoted)
    path = prepared.save(chosen.out)
    rules = audit(prepared)
    text = write_audit(rules, prepared, chosen.out)
    print(text)  # noqa: T201
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")  # noqa: T201
    return int(any(rule.fails for rule in rules))


def _train(chosen: argparse.Namespace) -> int:
    from builder.experiments.promotions.jobs import Plan, run
    from builder.experiments.promotions.training import Budget

    names = ("batch", "every", "patience", "most", "trial", "validation_visits")
    given = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    plan = Plan(
        prepared=chosen.prepared,
        out=chosen.out,
        device=chosen.device,
        minutes=chosen.minutes,
        workers=chosen.workers,
        only=tuple(chosen.only),
        seeds=chosen.seeds,
        pack=chosen.pack,
        budget=Budget(**given),
        test_visits=chosen.test_visits,
        length=chosen.length,
    )
    return int(run(plan, print) == 0)


def _baselines(chosen: argparse.Namespace) -> int:
    from builder.experiments.promotions.baselines import run_baselines

    run_baselines(
        Prepared.load(chosen.prepared), chosen.out, chosen.visits, chosen.test_visits, print
    )
    return 0


def _report(chosen: argparse.Namespace) -> int:
    from builder.experiments.promotions.report import write_report

    for path in write_report(chosen.runs, Prepared.load(chosen.prepared), chosen.out):
        print(path)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
