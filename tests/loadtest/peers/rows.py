"""Rows of the table with figures that are made up."""

from loadtest.peers.bench import Figures
from loadtest.peers.cells import CELLS
from loadtest.peers.servers import BARE, bare_row
from loadtest.peers.verdicts import Row


def figures(p50_ms: float, per_s: float) -> Figures:
    cell = {
        "answers": 9,
        "per_s": per_s,
        "p50_ms": p50_ms,
        "p90_ms": 2 * p50_ms,
        "degraded": 0,
        "p99_ms": 3 * p50_ms,
    }
    return {str(key): dict(cell) for key in CELLS}


def row(
    name: str, *rounds: tuple[float, float], is_general: bool = True, engine: str | None = None
) -> Row:
    values = [figures(*one) for one in rounds]
    return Row(name, name.title(), is_general, values, engine=engine)


BARES = {
    BARE: row(BARE, (4.0, 300), (4.0, 300), is_general=False),
    bare_row("native"): row(bare_row("native"), (1.0, 900), (2.0, 500), is_general=False),
}
ALONE = row("fastapi", *[(3.0, 300.0)] * 3, is_general=False)
