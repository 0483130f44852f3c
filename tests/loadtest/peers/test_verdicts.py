import pytest

from loadtest.peers.cells import CELLS, PAUSED, Cell
from loadtest.peers.servers import BARE, bare_row
from loadtest.peers.verdicts import Row, overhead_ms, ratio, spread, verdicts
from tests.loadtest.peers.rows import ALONE, BARES, row


def test_a_spread_is_median_and_extremes() -> None:
    assert spread([3, 1, 2]).text(1) == "2.0 (1.0 to 3.0)"


def test_the_overhead_is_taken_within_each_round_over_the_engine_that_scored() -> None:
    # .4 and .2 over the bare call of its engine, though the rounds differ by a whole millisecond.
    ours = row("absorb", (1.4, 400), (2.2, 400), engine="native")
    overhead, paused, *_ = verdicts(ours, BARES, [ALONE])
    assert overhead.is_met is paused.is_met is True
    assert overhead.measured == "0.30 (0.20 to 0.40) ms over Bare-Native"
    slower = row("absorb", (1.6, 400), (2.6, 400), engine="native")
    assert verdicts(slower, BARES, [ALONE])[0].is_met is False
    # The published graph is slower than the engine: it is not what a row of ours is compared with.
    published = row(BARE, (5.0, 900), (5.0, 900), is_general=False)
    assert verdicts(slower, BARES | {BARE: published}, [ALONE])[0].is_met is False


def test_pauses_are_a_verdict_of_their_own() -> None:
    ours = row("absorb", (1.4, 400), (2.2, 400), engine="native")
    for figures in ours.rounds:
        figures[str(PAUSED)]["p50_ms"] += 1
    without, with_pauses, *_ = verdicts(ours, BARES, [ALONE])
    assert (without.is_met, with_pauses.is_met) == (True, False)
    assert "pauses of 3 ms" in with_pauses.claim


def test_without_the_bare_call_of_its_engine_a_row_has_no_overhead() -> None:
    ours = row("absorb", (1.4, 400), engine="onnxruntime")
    assert verdicts(ours, BARES, [ALONE])[0].is_met is None
    assert overhead_ms(ours, BARES.get(bare_row("onnxruntime")), CELLS[0]) is None


@pytest.mark.parametrize(
    ("per_s", "is_met"), [(599, [False, False]), (600, [False, True]), (601, [True, True])]
)
def test_the_throughput_must_beat_the_best_of_the_others(per_s: float, is_met: list[bool]) -> None:
    peers = [row("slow", (9, 50)), row("fast", (5, 200), (5, 200.3), (5, 9000)), ALONE]
    ours = row("absorb", *[(2, per_s)] * 3, engine="native")
    ratios = verdicts(ours, BARES, peers)[2:4]
    assert [verdict.is_met for verdict in ratios] == is_met
    assert ratios[0].measured.endswith("× Fast")


def test_a_ratio_is_taken_within_each_round() -> None:
    got = ratio(row("absorb", (1, 300), (1, 900)), row("fast", (1, 100), (1, 300)), 200)
    assert got is not None
    assert got.text(1) == "3.0 (3.0 to 3.0)"


def test_missing_figures_give_no_verdict() -> None:
    failed = Row("ray", "Ray", True, [], "start: no | room")
    judged = verdicts(row("absorb"), BARES, [failed])
    assert {verdict.is_met for verdict in judged} == {None}


def test_cells_have_names_of_their_own() -> None:
    assert len({str(cell) for cell in CELLS}) == len(CELLS)
    assert str(Cell(1, 200)) != str(PAUSED)
