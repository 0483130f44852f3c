from pathlib import Path

import pytest

from loadtest.peers import bench
from loadtest.peers.cells import CELLS
from loadtest.peers.report import Row, page, plot, spread, verdicts


def figures(p50_ms: float, per_s: float) -> bench.Figures:
    cell = {
        "answers": 9,
        "per_s": per_s,
        "p50_ms": p50_ms,
        "p90_ms": 2 * p50_ms,
        "degraded": 0,
        "p99_ms": 3 * p50_ms,
    }
    return {str(key): cell for key in CELLS}


def row(name: str, *rounds: tuple[float, float], is_general: bool = True) -> Row:
    return Row(name, name.title(), is_general, [figures(*values) for values in rounds])


BARE = row("bare", (1.0, 900), (2.0, 500), is_general=False)


ALONE = row("fastapi", (3.0, 300), (3.0, 300), is_general=False)


def test_a_spread_is_median_and_extremes() -> None:
    assert spread([3, 1, 2]).text(1) == "2.0 (1.0–3.0)"


def test_the_overhead_is_taken_within_each_round() -> None:
    # 1.4 and 1.2 over the bare call, though the rounds differ by a whole millisecond.
    overhead, *_ = verdicts(row("absorb", (2.4, 400), (3.2, 400)), BARE, [ALONE])
    assert overhead.is_met is True
    assert overhead.measured == "1.30 (1.20–1.40) ms"
    overhead, *_ = verdicts(row("absorb", (2.7, 400), (3.4, 400)), BARE, [ALONE])
    assert overhead.is_met is False


@pytest.mark.parametrize(
    ("per_s", "is_met"), [(259, [False, False]), (299, [True, False]), (300, [True, True])]
)
def test_the_throughput_must_beat_the_best_of_the_others(per_s: float, is_met: list[bool]) -> None:
    peers = [row("slow", (9, 50)), row("fast", (5, 200), (5, 200), (5, 9000)), ALONE]
    ratios = verdicts(row("absorb", (2, per_s)), BARE, peers)[2:4]
    assert [verdict.is_met for verdict in ratios] == is_met
    assert "(Fast)" in ratios[0].measured


def test_missing_figures_give_no_verdict() -> None:
    failed = Row("ray", "Ray", True, [], "start: no | room")
    judged = verdicts(row("absorb"), BARE, [failed])
    assert {verdict.is_met for verdict in judged} == {None}
    text = page([row("absorb")], BARE, [failed], {"Machine": "none"})
    assert "| Ray | no figures: start: no / room |" in text
    assert text.count("**unknown**") == 6


def test_the_page_and_the_plot_show_every_row(tmp_path: Path) -> None:
    rows = [row("absorb", (2, 400)), ALONE]
    text = page(rows[:1], BARE, rows[1:], {"Command": "`make peers`"})
    assert text.count("| Absorb |") == text.count("| Fastapi |") == 2
    plot([BARE, *rows], tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 10_000
