"""Compares the reader in C with pydantic, on bodies near the common one and on damaged ones.

    python -m tests.service.native.token_fuzz 1000000 [seed]

What C accepts, pydantic accepts with the same values, and both find the same rows. What C declines, pydantic answers.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

from models.contract.errors import RequestError
from models.contract.field_reader import NumberReader
from models.contract.vocabulary import Vocabulary
from service.http.requests import ScoreRequest, parse_request
from service.native.rows import Rows
from service.native.tokens import Functions, ScoreBody, ScoreReader
from service.transport.limits import SlateLimits

LIMITS = SlateLimits(candidates=40, recent=12)
PLAIN = [str(number) for number in range(0, 4000, 7)]
LONG = [f"item-{number:030d}" for number in range(50)] + ["x" * 128, "x" * 127, "y" * 16, "y" * 17]
ODD = ["-5", "-0", "a b", "00", "é", "中文", "", "\x7f", "tab\t", 'q"', "\\", "z" * 129, "\u2028"]
VOCABULARY = Vocabulary(
    items=[*PLAIN, *LONG, "-5", "a b", "é"],
    user={},
    context={"hour": ["day", "1"]},
    candidate={
        "display": ["front", "3", "", "2.5", "5.0"],
        "mailer": ["cover", "é", "m" * 40],
        "price": ["", "-1", "0", "3", "19.99"],
    },
    readers={"candidate": {"price": NumberReader((-0.5, 0.15, 3.0), has_missing=True)}},
)
NAMES = ["display", "mailer", "display", "mailer", "price", "price", "", "dis play", "é"]
DECIMALS = [0.5, 2.5, 5.0, -0.0, 19.99, -0.15, 0.15, 0.0001, 99999999.1234567, 1234567890123.0]
TEXTS_OF_NUMBERS = [
    "19.99",
    "-0.5",
    "3",
    "007",
    "1e3",
    " 2",
    ".5",
    "5.",
    "1_0",
    "0.00",
    "nan",
    "1" * 16,
]
VALUES: list[object] = [
    *DECIMALS,
    *TEXTS_OF_NUMBERS,
    1e-5,
    1e22,
    123456789012345.0,
    123456789.123456789,
    0.1 + 0.2,
    "front",
    "cover",
    "3",
    3,
    "",
    "m" * 40,
    "é",
    None,
    "other",
    -1,
]
NUMBERS = [0, 1, 7, -5, 10**17, 10**18, 10**19, 3999, True, 1.0, 1e3, None]
SCRAPS = [
    *(
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"true",
        b"0",
        b"-",
        b"1.5",
        b"e9",
        b".",
        b"00",
    ),
    *(b"\x00", b"\xff", b"\xc3\xa9", b"\x7f", b"\xef\xbb\xbf", b"\n", b"\t ", b"\\u0041", b"/**/"),
    *(b'"user_id":', b'"fields":{', b'"id":', b"12345678901234567890", b"NaN", b"-0", b"01"),
]


class Generator:
    """Draws bodies. `is_common`: every body is one that C must accept."""

    def __init__(self, seed: int, is_common: bool) -> None:
        self._draw = random.Random(seed)
        self._is_common = is_common

    def bodies(self) -> Iterator[bytes]:
        """Bodies without end."""
        while True:
            raw = self._written()
            yield raw if self._is_common else self._damaged(raw)

    def _rarely(self, share: float = 0.01) -> bool:
        return not self._is_common and self._draw.random() < share

    def _id(self) -> object:
        draw = self._draw
        if self._rarely():
            return draw.choice([*ODD, *NUMBERS, [], {}])
        kind = draw.random()
        if kind < 0.7:
            return draw.choice(PLAIN)
        return draw.choice(LONG) if kind < 0.8 else draw.randrange(5000)

    def _fields(self) -> object:
        if self._rarely():
            return self._draw.choice([None, [], 5, "x", {"a": 1.5}])
        if self._is_common:
            names = self._draw.sample(["display", "mailer", "price"], self._draw.randrange(4))
            common = ["front", "3", 3, None, "other", "", *DECIMALS, *TEXTS_OF_NUMBERS]
            return {name: self._draw.choice(common) for name in names}
        names = [self._draw.choice(NAMES) for _ in range(self._draw.randrange(4))]
        return {name: self._draw.choice(VALUES) for name in names}

    def _candidate(self, has_fields: bool) -> object:
        if not has_fields and not self._rarely():
            return self._id()
        candidate = {"id": self._id(), "fields": self._fields()}
        if self._draw.random() < 0.1:
            del candidate["fields"]
        if self._rarely():
            candidate[self._draw.choice(["id", "Id", "more"])] = self._id()
        if self._draw.random() < 0.2:
            candidate = dict(reversed(candidate.items()))
        return candidate

    def _body(self) -> dict[str, Any]:
        draw = self._draw
        has_fields = draw.random() < 0.5
        number = draw.choice([1, 1, 2, 5, 20, 40, *([] if self._is_common else [0, 41])])
        body: dict[str, Any] = {"user_id": self._id()}
        body["candidates"] = [self._candidate(has_fields) for _ in range(number)]
        if draw.random() < 0.5:
            most = 12 if self._is_common else 14
            recent = [self._id() for _ in range(draw.randrange(most))]
            body["recent"] = draw.choice([recent, recent, None])
        if draw.random() < 0.6:
            choices: list[object] = ["day", "night", "", 1, 10**17, *DECIMALS]
            if not self._is_common:
                choices += [None, 1e-5, "é", 10**18, []]
            body["context"] = {
                draw.choice(["hour", "device", ""]): draw.choice(choices)
                for _ in range(draw.randrange(4))
            }
        if draw.random() < 0.4:
            body["model"] = draw.choice([None, "lrea", ""])
        if draw.random() < 0.4:
            body["top_k"] = draw.choice([None, 1, 10, 99999, *self._wrong_numbers()])
        if self._rarely():
            body[draw.choice(["models", "user", ""])] = 1
        names = draw.sample(list(body), len(body))
        return {name: body[name] for name in names}

    def _wrong_numbers(self) -> list[object]:
        return [] if self._is_common else [0, -1, True, 10**10, 10**30, "1", 1.0]

    def _written(self) -> bytes:
        draw = self._draw
        separators = draw.choice([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n")])
        text = json.dumps(
            self._body(),
            separators=separators,
            ensure_ascii=draw.random() < 0.5,
            indent=draw.choice([None, None, 1]),
        )
        return draw.choice(["", " ", "\n"]).encode() + text.encode() + draw.choice([b"", b" \n"])

    def _damaged(self, raw: bytes) -> bytes:
        """Perhaps cut, doubled, or with bytes changed or put in."""
        draw = self._draw
        while draw.random() < 0.3:
            at = draw.randrange(len(raw) + 1)
            to = min(len(raw), at + draw.choice([0, 1, 1, 2, 8]))
            piece = draw.choice([b"", draw.choice(SCRAPS), bytes([draw.randrange(256)])])
            raw = draw.choice([raw[:at] + piece + raw[to:], raw[:at] + piece + raw[at:], raw[:at]])
        return raw


class Comparison:
    """Both readers over the same bodies."""

    def __init__(self) -> None:
        functions = Functions()
        self._reader = ScoreReader(functions, LIMITS.candidates, LIMITS.recent)
        self._rows = Rows(VOCABULARY)

    def check(self, raw: bytes) -> bool:
        """Compare the readers; returns whether C accepted the body."""
        read = self._reader.read(raw)
        if read is None:
            return False
        try:
            expected = parse_request(ScoreRequest, raw, LIMITS)
        except RequestError as error:
            raise AssertionError(f"accepted, but {error}: {raw!r}") from error
        self._check_values(read, expected, raw)
        return True

    def _check_values(self, read: ScoreBody, expected: ScoreRequest, raw: bytes) -> None:
        ids, fields = expected.candidates.ids, expected.candidates.fields
        got = [read.user_id, list(read.ids), read.context, read.model, read.top_k]
        want = [expected.user_id, ids, expected.context, expected.model, expected.top_k]
        assert got == want, raw
        assert list(map(type, read.context.values())) == list(map(type, expected.context.values()))
        assert (None if read.recent is None else list(read.recent)) == expected.recent, raw
        columns = {name: list(column) for name, column in read.fields.items()}
        assert list(columns.items()) == list(fields.items()), raw
        assert self._rows.items(read.ids).tolist() == VOCABULARY.item_rows(ids).tolist(), raw
        if read.recent:
            recent = VOCABULARY.item_rows(list(expected.recent or ()))
            assert self._rows.items(read.recent).tolist() == recent.tolist(), raw
        known = VOCABULARY.known_candidate_fields(read.fields)
        found = self._rows.fields(known, len(ids))
        known_texts = VOCABULARY.known_candidate_fields(fields)
        assert found.tolist() == VOCABULARY.candidate_ids(known_texts, len(ids)).tolist(), raw
        self._check_piece(read, expected)

    def _check_piece(self, read: ScoreBody, expected: ScoreRequest) -> None:
        """Slates are also scored in pieces."""
        begin, end = len(read.ids) // 3, 2 * len(read.ids) // 3
        ids = expected.candidates.ids[begin:end]
        assert list(read.ids[begin:end]) == ids
        assert self._rows.items(read.ids[begin:end]).tolist() == [
            *map(int, VOCABULARY.item_rows(ids) if ids else ())
        ]
        piece = {name: column[begin:end] for name, column in read.fields.items()}
        texts = {name: list(column)[begin:end] for name, column in read.fields.items()}
        assert {name: list(column) for name, column in piece.items()} == texts
        known = VOCABULARY.known_candidate_fields(piece)
        known_texts = VOCABULARY.known_candidate_fields(texts)
        found = self._rows.fields(known, end - begin)
        assert found.tolist() == VOCABULARY.candidate_ids(known_texts, end - begin).tolist()


def compare(num_bodies: int, seed: int, is_common: bool) -> int:
    """Compare the readers on drawn bodies; returns how many C accepted."""
    comparison = Comparison()
    bodies = Generator(seed, is_common).bodies()
    return sum(comparison.check(raw) for raw, _ in zip(bodies, range(num_bodies), strict=False))


def main() -> None:
    """Compare as many bodies as the first argument says."""
    num_bodies = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    sys.stdout.write(f"seed {seed}\n")
    accepted = compare(num_bodies, seed, is_common=False)
    sys.stdout.write(f"{num_bodies} bodies, {accepted} accepted by C, all as pydantic reads them\n")


if __name__ == "__main__":
    main()
