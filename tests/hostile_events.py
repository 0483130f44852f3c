"""Generated bodies of POST /v1/events and POST /v1/items: right for the most part, wrong in one place or many."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.service.toy import AS_OF_S

Strategy = st.SearchStrategy[Any]
Body = tuple[bytes, Any]
"""Bytes, and what they hold; None for what is cut, no JSON, or holds a name twice."""
ITEM_FIELDS = {"kind": ["bread", "milk"], "maker": ["x", "y"]}
ODD_TEXTS = [
    "", " ", "a", "ann", "i1", "0", "-1", "NaN", "a:b", "{control}", "*", "absorb:*", "__proto__", "../..",
    "\x00", "a\nb", "\u202e", "\ud7ff", "\ufeff", "\U000e0001", "é", "e\u0301", "😀",
    "a" * 128, "a" * 129, "é" * 128, "x" * 20_000,
]  # fmt: skip
ODD_NUMBERS = [
    AS_OF_S, AS_OF_S + 300, AS_OF_S + 301, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**4200,
]  # fmt: skip

texts = st.one_of(st.text(max_size=6), st.sampled_from(ODD_TEXTS))
numbers = st.one_of(
    st.integers(-2, 2), st.integers(), st.sampled_from(ODD_NUMBERS), st.floats(allow_nan=True)
)
plain = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
names = st.one_of(st.sampled_from([*ITEM_FIELDS, "kinds", "user_id"]), texts)
more = st.dictionaries(names, values, max_size=1)
known_fields = st.dictionaries(
    st.sampled_from(list(ITEM_FIELDS)), st.sampled_from(["bread", "x", "z", 7, None]), min_size=1
)
many_fields = st.integers(15, 70).map(lambda many: {f"f{at}": "v" for at in range(many)})


def mostly(right: Strategy, odd: Strategy) -> Strategy:
    """One draw of ten is odd. Not `one_of`, which flattens its branches."""
    return st.integers(0, 9).flatmap(lambda number: odd if number == 9 else right)


fields = mostly(
    known_fields, st.one_of(st.dictionaries(names, plain, max_size=4), many_fields, values)
)
good_ids = st.sampled_from(["n1", "n2", "i1", "é", 7, 10**18, "a" * 128])
ids = mostly(good_ids, st.one_of(plain, values))


def objects(needed: dict[str, Strategy], optional: dict[str, Strategy]) -> Strategy:
    """Objects with the right names for the most part; some lack one, or have another one as well."""
    right = st.fixed_dictionaries(needed, optional=optional)
    some = st.fixed_dictionaries({}, optional={**needed, **optional})
    odd = st.builds(lambda one, extra: {**one, **extra}, right, more)
    return mostly(right, st.one_of(some, odd, values))


EVENT = objects(
    {"user_id": mostly(st.sampled_from(["ann", "new"]), ids), "item_id": ids},
    {
        "ts_s": mostly(st.integers(AS_OF_S - 9, AS_OF_S + 300), values),
        "kind": mostly(st.just("buy"), values),
        "fields": mostly(st.dictionaries(texts, st.just("web"), max_size=1), fields),
        "event_id": mostly(st.sampled_from(["e1", "e2"]), ids),
    },
)
ITEM = objects({"item_id": ids, "fields": fields}, {})


def _lists(one: Strategy, most: int) -> Strategy:
    """Short lists, some with each element twice; a few that are as long as may be, or longer by one."""
    short = st.lists(one, max_size=4)
    twice = short.map(lambda some: [*some, *some])
    # Of small objects: what hypothesis prints of a draw is bounded, and so is a body.
    small = [{"user_id": "ann", "item_id": "i1"}, {"item_id": "n1", "fields": {"kind": "milk"}}]
    length = st.sampled_from([most, most + 1])
    long = st.builds(lambda one, many: [one] * many, st.sampled_from(small), length)
    return mostly(short, st.one_of(twice, values, long))


def bodies(one: Strategy, name: str, most: int) -> st.SearchStrategy[Body]:
    """Bodies with a list of at most `most` objects under a name, or one object alone."""
    listed = st.fixed_dictionaries({name: _lists(one, most)})
    odd = st.builds(lambda body, extra: {**body, **extra}, listed, more)
    written = mostly(listed, st.one_of(odd, one, values)).map(_written)
    ends = st.integers(0, 10**6)
    cut = st.builds(lambda body, at: (body[0][: at % (len(body[0]) + 1)], None), written, ends)
    twice = written.map(lambda body: (b'{"%s":[],%s' % (name.encode(), body[0][1:]), None))
    digits = st.just((b'{"%s": [{"item_id": 1%s}]}' % (name.encode(), b"0" * 9999), None))
    noise = st.binary(max_size=40).map(lambda raw: (raw, None))
    return mostly(written, st.one_of(cut, twice, digits, noise))


def _written(body: Any) -> Body:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"), body
