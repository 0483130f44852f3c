import json
from pathlib import Path

from loadtest.peers.report import Measurement, as_json, page, plot
from loadtest.peers.verdicts import Row
from tests.loadtest.peers.rows import ALONE, BARES, row

OURS = [row("absorb", (2, 400), engine="native"), row("absorb-native", (2, 500), engine="native")]
FAILED = Row("ray", "Ray", True, [], "start: no | room")
MEASUREMENT = Measurement(
    "Some CPU (family 1)",
    {"Command": "`make peers`"},
    BARES,
    OURS,
    [ALONE, row("litserve", (5, 100)), FAILED],
)


def test_the_page_shows_every_row_beside_the_name_of_the_cpu() -> None:
    text = page(MEASUREMENT)
    assert text.count("| Ray | no figures: start: no / room |") == 2
    assert "| Absorb-Native | 5.00 (5.00 to 5.00) | 1.67 (1.67 to 1.67) |" in text
    assert "| Absorb | Bare-Native | 1.00 (1.00 to 1.00) |" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) == 4
    assert all("Some CPU (family 1)" in line for line in headings)


def test_the_tables_have_as_many_cells_in_every_line() -> None:
    lengths: set[int] = set()
    for line in [*page(MEASUREMENT).splitlines(), ""]:
        if line.startswith("|"):
            lengths.add(line.count("|"))
            continue
        assert len(lengths) <= 1
        lengths = set()


def test_a_page_without_rows_of_ours_has_no_verdicts() -> None:
    peers_only = Measurement("Some CPU", {}, {}, [], [ALONE])
    assert "Verdicts" not in page(peers_only)
    assert json.loads(as_json(peers_only))["verdicts"] == []


def test_the_json_holds_every_figure_with_the_name_of_the_cpu() -> None:
    content = json.loads(as_json(MEASUREMENT))
    assert [one["name"] for one in content["rows"]] == [one.name for one in MEASUREMENT.rows]
    assert {one["cpu"] for one in content["rows"]} == {"Some CPU (family 1)"}
    assert content["rows"][2]["rounds"] == OURS[0].rounds
    assert len(content["verdicts"]) == 6


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    plot(MEASUREMENT, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 10_000
