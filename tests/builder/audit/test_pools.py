"""Leaks that were planted into a log with known candidates: the audit looks at whole pools."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builder.audit.checks import VALUES
from builder.audit.report import Audit
from builder.audit.run import audit
from tests.builder import pool_logs
from tests.builder.audit.planted import failing
from tests.builder.logs import ingest_at
from tests.builder.pool_logs import offers, purchases, write_pools

KEYS = ["store", "week", "item_id"]


def audited(folder: Path, **tables: Any) -> Audit:
    recipe = write_pools(folder, **tables)
    return audit(ingest_at(recipe), recipe)


def bought() -> pl.DataFrame:
    """Which items were bought in which store and week."""
    return purchases().select(KEYS).unique().with_columns(is_bought=True)


def test_clean_pools_pass_and_are_looked_at_whole(tmp_path: Path) -> None:
    found = audited(tmp_path)

    assert failing(found) == set()
    sizes = {f.part: f.targets for f in found.findings if f.name == "item unknown to training: no"}
    assert sizes == {part: 15 * slates for part, slates in found.slates.items()}


def test_a_candidate_field_that_was_written_after_the_purchase_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the store room is what nobody bought there that week."""
    monkeypatch.setattr(pool_logs, "ITEMS", 120)  # with fewer, somebody buys each of them
    shown = offers().join(bought(), on=KEYS, how="left", maintain_order="left")
    placement = (
        pl.when(pl.col("is_bought")).then(pl.col("placement")).otherwise(pl.lit("store room"))
    )

    found = audited(tmp_path, shown=shown.with_columns(placement=placement).drop("is_bought"))

    assert failing(found) == {"candidate placement"}
    assert {f.name for f in found.failures} == {"candidate placement: store room"}


def test_items_that_could_not_be_bought_fail_in_whole_pools(tmp_path: Path) -> None:
    never = pl.DataFrame(
        [
            (store, week, f"never{i}", "end")
            for store in range(2)
            for week in range(10)
            for i in range(9)
        ],
        schema=["store", "week", "item_id", "placement"],
        orient="row",
    )
    (tmp_path / "items.csv").write_text(
        "item_id\n"
        + "".join(f"i{i}\n" for i in range(30))
        + "".join(f"never{i}\n" for i in range(9))
    )

    found = audited(tmp_path, shown=pl.concat([offers(), never]), data={"items": "items.csv"})

    assert failing(found) == {"item unknown to training", "order of item rows"}


def test_ids_for_placements_of_the_test_weeks_fail(tmp_path: Path) -> None:
    recipe = write_pools(tmp_path)
    events = ingest_at(recipe)
    assert events.pools is not None
    assert events.event_pool is not None
    known = set(events.event_pool[events.is_known()].tolist())
    for pool, (first, end) in enumerate(
        zip(events.pools.first, events.pools.first[1:], strict=False)
    ):
        fields = events.pools.fields[first:end]
        if pool in known:
            fields[fields == 4] = 3

    found = audit(events, recipe)

    assert failing(found) == {VALUES}
    assert "candidate placement (1)" in next(c.text for c in found.checks if c.name == VALUES)
