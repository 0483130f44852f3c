"""Builders at once, as processes: two in one run folder, and two on two machines with one cache."""

from builder.pipeline import STEPS
from tests.e2e.expected import read_expected
from tests.e2e.gate import Gate
from tests.e2e.killing import RECORD

PAUSE_S = 2.0
"""Between 2 of 200 records: the first builder is still writing when the others have started, on any machine."""


def test_the_second_builder_names_the_first_and_stops(first, cache, tmp_path):
    build = first.copy(tmp_path / "one", cache.url)
    elsewhere = first.copy(tmp_path / "two", cache.url)
    with (
        Gate(cache.folder / "gate.sock", cache.socket, RECORD, PAUSE_S) as gate,
        build.at(gate.url).run("--from", "publish") as holder,
    ):
        gate.wait_until_shut()
        assert list(build.folder.stamps()) == list(STEPS)[:-1]
        with build.run() as here, elsewhere.run() as there:
            assert here.finish() == 1
            assert there.finish() == 1
        gate.open()
        assert holder.finish() == 0, holder.shown

    for second, what in (here, str(build.folder.path)), (there, "model 'tiny'"):
        assert "error:" in second.shown
        assert what in second.shown
        assert f"pid {holder.pid} since" in second.shown
    serving = cache.serving()
    assert build.folder.stamps()["publish"].result["name"] == serving.name
    assert read_expected(cache.client, serving, build.artifacts).records == first.expected.records
    assert cache.generations() == {serving.name}
