"""The cache with a limit in bytes, compared with a simple list."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.state.byte_lru import ByteLru

LIMIT = 100
GROUPS = st.sampled_from("ab")
NAMES = st.sampled_from("xyz")
Entry = tuple[str, str, int, int, float]


class AgainstAList(RuleBasedStateMachine):
    """All entries in one list, the least recently used first; closed ones in another, the next to leave last."""

    def __init__(self) -> None:
        super().__init__()
        self.lru: ByteLru[str, int] = ByteLru(LIMIT)
        self.now_s = 0.0
        # Both are open at first: otherwise most runs would close, get and remove what was never stored.
        self.opened = {"a", "b"}
        for group in "ab":
            self.lru.open(group)
        self.entries: list[Entry] = []
        self.closed: list[int] = []
        self.evictions = 0
        self.puts = 0

    def take(self, group: str, name: str) -> list[Entry]:
        """The entry of that name out of the list, if there is one."""
        taken = [one for one in self.entries if one[:2] == (group, name)]
        self.entries = [one for one in self.entries if one[:2] != (group, name)]
        return taken

    @property
    def num_bytes(self) -> int:
        return sum(self.closed) + sum(one[3] for one in self.entries)

    @rule(group=GROUPS)
    def open(self, group: str) -> None:
        self.lru.open(group)
        self.opened.add(group)

    @rule(group=GROUPS)
    @precondition(lambda self: self.entries)
    def close(self, group: str) -> None:
        self.lru.close(group)
        self.opened.discard(group)
        self.closed += [one[3] for one in self.entries if one[0] == group][::-1]
        self.entries = [one for one in self.entries if one[0] != group]

    @rule(group=GROUPS, name=NAMES, num_bytes=st.integers(1, 110), ttl_s=st.integers(0, 5))
    def put(self, group: str, name: str, num_bytes: int, ttl_s: int) -> None:
        self.puts += 1
        until_s = self.now_s + ttl_s
        kept = self.lru.put(group, name, self.puts, num_bytes, until_s)
        assert kept == (group in self.opened and num_bytes <= LIMIT)
        if group in self.opened:
            self.take(group, name)
        if kept:
            while self.num_bytes + num_bytes > LIMIT:
                if self.closed:
                    self.closed.pop()
                else:
                    self.entries.pop(0)
                    self.evictions += 1
            self.entries.append((group, name, self.puts, num_bytes, until_s))

    @rule(group=GROUPS, name=NAMES)
    def get(self, group: str, name: str) -> None:
        fresh = [one for one in self.take(group, name) if one[4] > self.now_s]
        self.entries += fresh
        assert self.lru.get(group, name, self.now_s) == (fresh[0][2] if fresh else None)

    @rule(group=GROUPS, name=NAMES)
    def remove(self, group: str, name: str) -> None:
        self.take(group, name)
        self.lru.remove(group, name)

    @rule(num_entries=st.integers(1, 3))
    def sweep(self, num_entries: int) -> None:
        more = self.lru.sweep(num_entries)
        assert more == (len(self.closed) >= num_entries)
        self.closed = self.closed[: max(0, len(self.closed) - num_entries)]

    @rule()
    def time_passes(self) -> None:
        self.now_s += 1

    @invariant()
    def it_weighs_what_it_holds_and_never_too_much(self) -> None:
        assert self.lru.num_bytes == self.num_bytes <= LIMIT
        assert self.lru.num_entries == len(self.entries) + len(self.closed)
        assert self.lru.evictions == self.evictions
        for group in self.opened:
            weights = [one[3] for one in self.entries if one[0] == group]
            assert self.lru.size_of(group) == (len(weights), sum(weights))


AgainstAList.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestAgainstAList = AgainstAList.TestCase


def test_closed_entries_are_unreachable_count_and_leave_first():
    lru: ByteLru[str, int] = ByteLru(30)
    for group in ("old", "new"):
        lru.open(group)
    lru.put("new", "kept", 1, 10, 1.0)
    lru.put("old", "x", 2, 10, 1.0)
    lru.put("old", "y", 3, 10, 1.0)
    lru.close("never opened")
    lru.close("old")
    assert (lru.get("old", "x", 0.0), lru.size_of("old"), lru.num_bytes) == (None, (0, 0), 30)
    lru.put("new", "more", 4, 10, 1.0)
    assert (lru.num_bytes, lru.num_entries, lru.evictions) == (30, 3, 0)
    assert (lru.sweep(1), lru.sweep(1)) == (True, False)
    assert (lru.num_bytes, lru.size_of("new")) == (20, (2, 20))
    lru.remove("new", "kept")
    lru.remove("new", "absent")
    assert (lru.num_bytes, lru.num_entries, lru.size_of("new")) == (10, 1, (1, 10))


def test_an_entry_expires_at_its_time_and_frees_its_bytes():
    lru: ByteLru[str, int] = ByteLru(30)
    lru.open("a")
    lru.put("a", "x", 1, 10, 5.0)
    assert lru.get("a", "x", 4.9) == 1
    assert lru.get("a", "x", 5.0) is None
    assert (lru.num_bytes, lru.num_entries, lru.size_of("a")) == (0, 0, (0, 0))


def test_the_least_recently_used_of_all_groups_is_evicted():
    lru: ByteLru[str, int] = ByteLru(30)
    places = [("b", "first"), ("a", "second"), ("b", "third")]
    for group, name in places:
        lru.open(group)
        lru.put(group, name, 0, 10, 1.0)
    lru.get("b", "first", 0.0)
    lru.put("c", "nothing is stored", 0, 10, 1.0)
    assert lru.evictions == 0
    lru.put("a", "fourth", 0, 10, 1.0)  # evicts "second"
    lru.put("a", "fifth", 0, 10, 1.0)  # evicts "third"
    left = [*places, ("a", "fourth"), ("a", "fifth")]
    assert [lru.get(*place, 0.0) for place in left] == [0, None, None, 0, 0]
    assert lru.evictions == 2


def test_the_end_of_an_entry_is_known_while_its_group_is_open():
    lru: ByteLru[str, int] = ByteLru(100)
    lru.open("group")
    lru.put("group", "a", 1, 10, 7.0)
    assert lru.until_s("group", "a") == 7.0
    assert lru.until_s("group", "b") is None
    assert lru.until_s("other", "a") is None
    lru.close("group")
    assert lru.until_s("group", "a") is None


def test_a_use_saves_an_entry_from_the_eviction_of_another_group():
    lru: ByteLru[str, int] = ByteLru(20)
    for group in ("a", "b"):
        lru.open(group)
        lru.put(group, "x", 0, 10, 1.0)
    lru.get("a", "x", 0.0)
    lru.put("b", "y", 0, 10, 1.0)
    assert [lru.get(*place, 0.0) for place in (("a", "x"), ("b", "x"), ("b", "y"))] == [0, None, 0]
