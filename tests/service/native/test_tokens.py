"""C reads a body as pydantic does, or leaves it to pydantic."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.vocabulary import Vocabulary
from service.native.compile import compile_library, seal
from service.native.library import NativeLibraryError, open_library
from service.native.rows import Rows
from service.native.tokens import CONTEXT, HEAD_LENGTH, NAMES, Functions, RawIds, ScoreReader
from tests.fuzzing import drawn
from tests.service.native.token_fuzz import LIMITS, SCRAPS, VOCABULARY, Comparison, compare

FOLDER = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def library(native_library: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABSORB_NATIVE_LIBRARY", str(native_library))
        yield


def test_common_bodies_are_read_by_c_as_by_pydantic():
    assert compare(1500, seed=1, is_common=True) == 1500


def test_no_damaged_body_is_read_otherwise_than_by_pydantic():
    assert 400 < compare(4000, seed=2, is_common=False) < 3000


@drawn(400)
@given(st.lists(st.sampled_from([*SCRAPS, b'"a"', b'"candidates":', b"{}", b'{"id":"7"}'])))
def test_no_row_of_tokens_is_read_otherwise_than_by_pydantic(tokens: list[bytes]):
    comparison = Comparison()
    comparison.check(b"".join(tokens))
    comparison.check(b'{"user_id":"a","candidates":[' + b"".join(tokens) + b"]}")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"user_id":"a"}',
        b'{"user_id":"a","candidates":[]}',
        b'{"user_id":"a","candidates":["1"],"user_id":"b"}',
        b'{"user_id":"a","candidates":["1"]} x',
        b'{"user_id":"a","candidates":["1"],}',
        b'{"user_id":"a","candidates":["1",]}',
        b'{"user_id":"a","candidates":["\\u0031"]}',
        b'{"user_id":"a","candidates":["1"],"more":1}',
        b'{"user_id":"a","candidates":[{"id":"1","id":"2"}]}',
        b'{"user_id":"a","candidates":[{"id":"1","fields":{"b":"1","b":"2"}}]}',
        b'{"user_id":"a","candidates":[{}]}',
        b'{"user_id":"a","candidates":[-0]}',
        b'{"user_id":"a","candidates":[1.0]}',
        b'{"user_id":"a","candidates":[1e3]}',
        b'{"user_id":"a","candidates":[1234567890123456789]}',
        b'{"user_id":"a","candidates":["1"],"context":{"b":1,"b":1}}',
        b'{"user_id":"a","candidates":["1"]',
        b'{"user_id":"a","candidates":["1"]}\x00',
        b'{"user_id":"a","candidates":[' + b"[" * 100_000,
        b'{"user_id":"' + b"a" * 129 + b'","candidates":["1"]}',
    ],
)
def test_an_unusual_body_is_declined(raw: bytes):
    assert ScoreReader(Functions(), LIMITS.candidates, LIMITS.recent).read(raw) is None


@pytest.mark.parametrize(
    ("field", "most"), [("candidates", LIMITS.candidates), ("recent", LIMITS.recent)]
)
def test_the_limits_of_lists_are_kept(field: str, most: int):
    reader = ScoreReader(Functions(), LIMITS.candidates, LIMITS.recent)
    lists = {"candidates": '["1"]', "recent": "[]"}
    for number, is_read in ((most, True), (most + 1, False)):
        lists[field] = f"[{','.join(['7'] * number)}]"
        body = f'{{"user_id":1,"candidates":{lists["candidates"]},"recent":{lists["recent"]}}}'
        assert (reader.read(body.encode()) is not None) is is_read


def test_every_item_is_found_and_no_other():
    ids = [str(number) for number in range(30_000)] + [f"{'k' * 20}{n}" for n in range(3000)]
    rows = Rows(Vocabulary(ids, {}, {}))
    texts = [*ids, "x", "30000", "k" * 20, "", "kk"]
    body = "".join(texts).encode()
    lengths = np.array([*map(len, texts)], np.int32)
    spans = np.stack([np.cumsum(lengths) - lengths, lengths], 1).astype(np.int32)
    found = rows.items(RawIds(body, spans, spans.ctypes.data)).tolist()
    assert found == [*range(2, 2 + len(ids)), 1, 1, 1, 1, 1]


def test_without_the_library_the_vocabulary_finds_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read = ScoreReader(Functions(), 40, 12).read(
        b'{"user_id":1,"candidates":[{"id":7,"fields":{"display":"front","price":19.99}},"x"]}'
    )
    assert read is not None
    with_library = Rows(VOCABULARY)
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(tmp_path / "absent.so"))
    without = Rows(VOCABULARY)
    for rows in (with_library, without):
        assert rows.items(read.ids).tolist() == [3, 1]
        assert rows.fields(read.fields, 2).tolist() == [[2, 1, 6], [1, 1, 2]]
        assert rows.fields({"mailer": ["cover", None]}, 2).tolist() == [[1, 2, 2], [1, 1, 2]]


def test_a_library_without_these_functions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    older = tmp_path / "older.c"
    older.write_text("int absorb_native_abi(void) { return ABI; }")
    from service.native.library import ABI

    library = tmp_path / "older.so"
    subprocess.run(["cc", "-shared", f"-DABI={ABI}", str(older), "-o", str(library)], check=True)
    seal(library)
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(library))
    assert open_library().path == library
    with pytest.raises(NativeLibraryError, match="absorb_read_score"):
        Functions()


def test_header_and_binding_name_the_same_places():
    text = (FOLDER / "service" / "native" / "tokens.h").read_text()
    assert f"CONTEXT = {CONTEXT}," in text
    assert (NAMES, HEAD_LENGTH) == (CONTEXT + 5 * 64, NAMES + 2 * 32)
    for line in ("NUM_CONTEXT = 9,", "NUM_NAMES = 10,", "NUM_CELLS = 11,"):
        assert line in text


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_nothing_outside_of_the_arrays_is_touched(tmp_path: Path):
    library = tmp_path / "checked.so"
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", "gcc")
        compile_library(library, flags)
    runtimes = [
        subprocess.run(
            ["gcc", f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("asan", "ubsan")
    ]
    environment = {
        **os.environ,
        "ABSORB_NATIVE_LIBRARY": str(library),
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",  # bodies in allocations of their own
        "PYTHONPATH": str(FOLDER),
    }
    command = [sys.executable, "-m", "tests.service.native.token_fuzz", "3000", "5"]
    done = subprocess.run(
        command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "3000 bodies" in done.stdout
