"""The bench against other servers: its bytes, its arithmetic, its verdicts. Running it is `make peers`."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from loadtest.peers import bench
from loadtest.peers.cells import CELLS, measured
from loadtest.peers.driver import check, load
from loadtest.peers.environments import version_of
from loadtest.peers.paths import HERE
from loadtest.peers.queries import Query
from loadtest.peers.report import Row, page, plot, spread, verdicts
from loadtest.peers.servers import ABSORBS, PEERS, Route
from loadtest.peers.wire_formats import HEADER_LENGTH, http_request, scores_of
from service.settings import Settings

ROUTES = {wire: Route(wire, "/score", wire) for wire in ("json", "v2", "v2-binary")}


def figures(p50_ms: float, per_s: float) -> bench.Figures:
    cell = {
        "answers": 9,
        "per_s": per_s,
        "p50_ms": p50_ms,
        "p90_ms": 2 * p50_ms,
        "degraded": 0,
        "p99_ms": 3 * p50_ms,
    }
    return {str(one): cell for one in CELLS}


def row(name: str, *rounds: tuple[float, float], is_general: bool = True) -> Row:
    return Row(name, name.title(), is_general, [figures(*one) for one in rounds])


BARE = row("bare", (1.0, 900), (2.0, 500), is_general=False)
ALONE = row("fastapi", (3.0, 300), (3.0, 300), is_general=False)


def test_the_summary_is_of_latencies_that_requests_had() -> None:
    got = measured(np.arange(1, 101) / 1000, 2.0)
    assert (got.answers, got.per_s) == (100, 50)
    assert (got.p50_ms, got.p90_ms, got.p99_ms) == pytest.approx((50, 90, 99))


def test_no_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no answer in 1\.5 s"):
        measured(np.zeros(0), 1.5)


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


def test_what_was_not_measured_is_no_verdict() -> None:
    failed = Row("ray", "Ray", True, [], "start: no | room")
    found = verdicts(row("absorb"), BARE, [failed])
    assert {verdict.is_met for verdict in found} == {None}
    text = page([row("absorb")], BARE, [failed], {"Machine": "none"})
    assert "| Ray | no figures: start: no / room |" in text
    assert text.count("**unknown**") == 6


def test_the_page_and_the_plot_show_every_row(tmp_path: Path) -> None:
    rows = [row("absorb", (2, 400)), ALONE]
    text = page(rows[:1], BARE, rows[1:], {"Command": "`make peers`"})
    assert text.count("| Absorb |") == text.count("| Fastapi |") == 2
    plot([BARE, *rows], tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 10_000


def test_a_binary_request_says_how_long_its_parts_are() -> None:
    head, _, body = http_request(ROUTES["v2-binary"], "h", "ü", ["a", "bc"]).partition(b"\r\n\r\n")
    headers = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
    length = int(headers[HEADER_LENGTH])
    inputs = json.loads(body[:length])["inputs"]
    assert [one["parameters"]["binary_data_size"] for one in inputs] == [6, 11]
    assert body[length:] == b"\x02\0\0\0\xc3\xbc\x01\0\0\0a\x02\0\0\0bc"
    assert int(headers["Content-Length"]) == len(body)


def test_scores_are_read_from_every_form_of_answer() -> None:
    scores = np.array([0.25, 0.5])
    outputs = {"outputs": [{"name": "scores", "data": [0.25, 0.5]}]}
    assert scores_of(ROUTES["json"], {}, b'{"scores": [0.25, 0.5]}').tolist() == scores.tolist()
    assert scores_of(ROUTES["json"], {}, b"[0.25, 0.5]").tolist() == scores.tolist()
    assert scores_of(ROUTES["v2"], {}, json.dumps(outputs).encode()).tolist() == scores.tolist()
    header = b'{"outputs":[{"name":"scores","datatype":"FP64"}]}'
    headers = {HEADER_LENGTH.lower(): str(len(header))}
    assert scores_of(ROUTES["v2-binary"], headers, header + scores.tobytes()).tolist() == [
        0.25,
        0.5,
    ]
    with pytest.raises(ValueError, match="expected scores"):
        scores_of(ROUTES["json"], {}, b'{"detail": "no"}')


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection to a server whose score is half of the user's id, and that has no user "x"."""
    with suppress(asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            asked = json.loads(await reader.readexactly(length))
            is_known = asked["user_id"] != "x"
            body = json.dumps({"scores": [int(asked["user_id"]) / 2] if is_known else []}).encode()
            status = f"HTTP/1.1 {200 if is_known else 404} Word\r\nContent-Length: {len(body)}"
            writer.write(f"{status}\r\n\r\n".encode() + body)
    writer.close()


async def timed(query: Query) -> int:
    """Check a query, then ask it for a while; how many answers were timed."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        await check(port, ROUTES["json"], [query])
        request = http_request(ROUTES["json"], "h", query.user_id, query.candidates)
        latency_s, _, _ = await load(port, 2, [request], 0.05, 0.1)
        return len(latency_s)
    finally:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)
        await asyncio.sleep(0)


def test_the_driver_times_answers_over_connections_that_stay_open() -> None:
    assert asyncio.run(timed(Query("1", ["i"], [0.5]))) > 2


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (Query("1", ["i"], [0.4]), "scores of user 1 differ by 0.1"),
        (Query("1", ["i", "j"], [0.5, 0.5]), r"got \(1,\) scores, expected 2"),
        (Query("x", ["i"], [0.5]), "status 404"),
    ],
)
def test_a_wrong_answer_is_never_timed(query: Query, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        asyncio.run(timed(query))


def test_every_peer_is_pinned_and_can_be_started() -> None:
    for server in PEERS:
        lines = (HERE / server.name / "requirements.txt").read_text().splitlines()
        assert all("==" in line for line in lines if not line.startswith("#")), server.name
        assert version_of(server) != server.package
        assert (HERE / server.name / "server.py").exists()


def test_absorb_is_started_with_settings_that_it_has() -> None:
    known = {f"ABSORB_{name.upper()}" for name in Settings.model_fields}
    assert all(set(server.environment) <= known for server in ABSORBS)
