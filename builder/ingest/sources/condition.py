"""`data.filter`: rows of a file that an SQL condition keeps."""

import logging

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import require_columns
from builder.ingest.sources.scan import Scan

logger = logging.getLogger(__name__)


def keep_rows(source: str, table: Scan, condition: str) -> pl.LazyFrame:
    """The rows for which the condition is true. Logs how many others there are.

    Columns of a CSV are compared as numbers where all their values are numbers, otherwise as texts. The rows that are
    kept hold the texts of the file in either case.

    Raises:
        EventsError: the condition names a column that the file lacks, is not true or false, or compares what cannot be
            compared.
    """
    expression = pl.sql_expr(condition)
    columns = list(dict.fromkeys(expression.meta.root_names()))
    there = table.names
    require_columns(f"{source}: data.filter", there, columns)
    texts = [name for name in columns if name in table.texts]
    numbers = _numbers(table.lazy, texts)
    raw = [pl.col(name).alias(f"raw:{name}") for name in there]
    typed = [numbers.get(name, pl.col(name)) for name in columns]
    lazy = table.lazy.select(*raw, *typed)
    _require_condition(source, lazy, expression, condition)
    counts = lazy.select(
        all=pl.len(), kept=expression.sum(), unknown=expression.is_null().sum()
    ).collect()
    total, kept, unknown = (int(value or 0) for value in counts.row(0))
    logger.info(
        "%s: data.filter left out %d of %d rows, %d of them for a missing value",
        *(source, total - kept, total, unknown),
    )
    return lazy.filter(expression).select(pl.col(f"raw:{name}").alias(name) for name in there)


def _numbers(lazy: pl.LazyFrame, texts: list[str]) -> dict[str, pl.Expr]:
    """Columns of texts that are all numbers -> the numbers."""
    if not texts:
        return {}
    kinds: dict[str, type[pl.DataType]] = {"Int64": pl.Int64, "Float64": pl.Float64}
    fits = {
        f"{kind}:{name}": pl.col(name).cast(dtype, strict=False).null_count()
        == pl.col(name).null_count()
        for name in texts
        for kind, dtype in kinds.items()
    }
    found = lazy.select(**fits).collect().row(0, named=True)
    return {
        name: pl.col(name).cast(dtype)
        for name in texts
        for kind, dtype in reversed(kinds.items())
        if found[f"{kind}:{name}"]
    }


def _require_condition(
    source: str, lazy: pl.LazyFrame, expression: pl.Expr, condition: str
) -> None:
    try:
        dtype = lazy.select(kept=expression).head(2).collect().schema["kept"]
    except pl.exceptions.PolarsError as error:
        types = ", ".join(
            f"{name} {kind}"
            for name, kind in lazy.collect_schema().items()
            if name in expression.meta.root_names()
        )
        first = str(error).splitlines()[0]
        raise EventsError(
            source,
            f"data.filter: got {condition!r} for columns of the types {types} ({first}), expected values that can be "
            "compared; CAST(column AS DOUBLE) makes numbers of texts",
        ) from error
    if dtype != pl.Boolean:
        raise EventsError(
            source, f"data.filter: got {condition!r}, which is a {dtype}, expected true or false"
        )
