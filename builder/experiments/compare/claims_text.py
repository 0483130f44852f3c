"""The claims that a comparison is for, as Markdown: the best slots against every model that they should beat."""

from collections.abc import Iterable, Iterator, Sequence

from builder.experiments.compare.columns import FLOORS, NAMES, in_words, signed_as, verdict
from builder.experiments.compare.table import Comparison, Estimate, Row
from builder.experiments.report.markdown import markdown_table

LARGEST_LOSS = 0.0005
"""Of AUC against full attention, that the interval should exclude."""
NOTES = (
    "Rows are chosen by mean validation, never by the test: the best of family `lrea`, called the winner here, the",
    "best `full`, the best `none`. Each cell: the difference, paired by user and seed, and whether its 95% interval is",
    "all on the better side (ahead), all on the worse (behind), or holds 0 (level).",
)
Differences = dict[str, Estimate | None]


def claims_lines(comparison: Comparison) -> Iterable[str]:
    """Differences of the winner to every other kind of model, and verdicts; nothing without a winner."""
    winner = comparison.winner
    if winner is None:
        return
    yield from ("", "## What the comparison is for", "", *NOTES, "")
    yield f"### The winner, {winner.label}, against the others"
    yield ""
    against = dict(_against(comparison, winner))
    yield from _table(comparison, "less", against)
    yield ""
    yield from _verdicts(comparison, winner, against)
    yield from _attention_over_counts(comparison)


def _against(comparison: Comparison, winner: Row) -> Iterator[tuple[str, Differences]]:
    """Name of a floor or a row -> the winner's metrics less its."""
    for name in comparison.floors:
        yield FLOORS[name], _over_floor(comparison, winner, name)
    rows = [row for row in comparison.rows if row.family == "two-stage"]
    best = (comparison.full, comparison.best("none"))
    for row in (*rows, *(row for row in best if row is not None)):
        name = f"{row.label} (best `{row.family}`)" if row in best else row.label
        yield name, {metric: winner.over(row, metric) for metric in _metrics(comparison)}


def _verdicts(
    comparison: Comparison, winner: Row, against: dict[str, Differences]
) -> Iterator[str]:
    main = comparison.main_metric
    floor = against.get(FLOORS["trees"])
    if floor is not None:
        yield f"- Clears the trees in {_words(floor, (main, 'log_loss'))}."
    labels = [row.label for row in comparison.rows if row.family == "two-stage"]
    for metric in _metrics(comparison) if labels else ():
        won = {label: verdict(metric, against[label][metric]) for label in labels}
        yield f"- Against the two-stage models, {NAMES[metric]}: {_listed(won)}."
    full = comparison.full
    auc = winner.over(full, "auc")
    if full is not None and auc is not None and auc.half is not None:
        low = auc.mean - auc.half
        holds = "is" if low >= -LARGEST_LOSS else "is **not**"
        yield (
            f"- Against {full.label}, the best full attention: AUC {in_words(auc, 5)}, so a loss above "
            f"{LARGEST_LOSS:g} {holds} excluded (lower end {low:+.5f})."
        )


def _listed(won: dict[str, str]) -> str:
    """Labels by verdict: ahead of A, B; level with C."""
    links = {"ahead": "ahead of", "level": "level with", "behind": "behind"}
    parts = []
    for word, link in links.items():
        labels = [label for label, found in won.items() if found == word]
        if labels:
            parts.append(f"{link} {', '.join(labels)}")
    return "; ".join(parts) or "no intervals"


def _words(differences: Differences, metrics: Sequence[str]) -> str:
    return ", ".join(
        f"{NAMES[metric]}: {'yes' if verdict(metric, differences[metric]) == 'ahead' else '**no**'}"
        for metric in metrics
    )


def _attention_over_counts(comparison: Comparison) -> Iterator[str]:
    """Whether attention to events beats the best model without it."""
    base = comparison.best("none")
    rows = [row for row in comparison.rows if row.family in ("full", "two-stage")]
    if base is None or not rows:
        return
    yield from ("", f"### Attention to events against none: less {base.label}", "")
    found = {row.label: {m: row.over(base, m) for m in _metrics(comparison)} for row in rows}
    yield from _table(comparison, "model", found)


def _table(comparison: Comparison, first: str, found: dict[str, Differences]) -> list[str]:
    metrics = _metrics(comparison)
    cells = (
        [name, *(_cell(metric, differences[metric]) for metric in metrics)]
        for name, differences in found.items()
    )
    return markdown_table([first, *(NAMES[metric] for metric in metrics)], cells)


def _cell(metric: str, value: Estimate | None) -> str:
    word = verdict(metric, value)
    return f"{signed_as(metric, value)}{', ' if word else ''}{word}"


def _metrics(comparison: Comparison) -> list[str]:
    wanted = dict.fromkeys(
        (comparison.main_metric, "auc", "slate_ndcg", "slate_recall", "log_loss")
    )
    return [metric for metric in wanted if comparison.rows[0].values(metric)]


def _over_floor(comparison: Comparison, row: Row, name: str) -> Differences:
    floor, kept = comparison.floors[name], comparison.floors_resampled.get(name)
    return {metric: row.over_floor(floor, kept, metric) for metric in _metrics(comparison)}
