"""The table that `absorb status` prints."""

from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from builder.publish.status import ModelStatus


def status_table(url: str, models: Iterable[ModelStatus], default: str | None) -> Table:
    """What the cache holds.

    Args:
        url: shown in the title.
        models: one row each.
        default: model that answers requests that name none; None: no publish has set one.
    """
    table = Table(title=f"cache {url}", caption=f"default model: {default or 'none yet'}")
    for name in (
        "model",
        "serves",
        "users",
        "roll back to",
        "bytes per user",
        "unfinished",
        "building now",
    ):
        table.add_column(name)
    for model in models:
        current = model.pointer.current if model.pointer else None
        previous = model.pointer.previous if model.pointer else None
        table.add_row(
            model.model,
            escape(model.problem) if model.problem else current.name if current else "nothing",
            f"{model.records.get(current.place, 0):,} of {current.num_users:,}" if current else "",
            previous.name if previous else "nothing",
            f"{model.record_bytes:,}" if model.record_bytes else "",
            ", ".join(model.unfinished) or "none",
            model.lock_holder or "no builder",
        )
    return table
