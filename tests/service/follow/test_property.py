"""The promise as a property: whatever happens in whatever order, every record is that of a rebuild.

Steps: events in any order, late, twice, of users and items that the build does not know; new items that are registered,
changed and removed; lost streams; two workers, one of which is killed before any command, or finds that the other one
was faster; publishes beside and in place with events in the middle of them, with a batch log that has got the events or
has not; rollbacks; users who are forgotten. At rest, each record of the generation that serves is what the encode graph
makes of the oracle's own window.
"""

import sys
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from redis import Redis

from builder.errors import PublishError
from builder.publish.generations import rollback
from models.contract.state_spec import RECORD_DTYPES, RecordDtype
from models.live.event import Event
from models.live.forget import forget_in_cache
from models.live.keys import IN_KEY, log_key
from service.follow.worker import Worker
from tests.builds import Builds
from tests.service.follow.fragile import Fragile, KilledError
from tests.service.follow.test_worker import (
    CASES,
    new_truth,
    new_worker,
    redis,
    server,
    settle,
)
from tests.service.follow.truth import (
    DAY_S,
    FIRST_CUT_S,
    MODEL,
    NEW_ITEM,
    NOW_S,
    Truth,
    event,
)

__all__ = ["redis", "server"]  # fixtures

USERS = ["u0", "u1", "new", "other"]
FORGETTABLE = ["u0", "new", "other"]
"""Not every user of the build: a generation without records is not published."""
MAX_COMMANDS = 40
"""Commands of one batch, about."""
times = st.one_of(
    st.integers(FIRST_CUT_S - 3, FIRST_CUT_S + 3),
    st.integers(FIRST_CUT_S - 6 * DAY_S, NOW_S),
    st.integers(FIRST_CUT_S - 9 * DAY_S, FIRST_CUT_S - 6 * DAY_S),
)


class Following(RuleBasedStateMachine):
    """One history of a cache. `prepare` says with what."""

    builds: Builds
    client: Redis
    kind: str
    dtype: RecordDtype
    steps = histories = compared = 0

    @initialize()
    def begin(self) -> None:
        type(self).histories += 1
        self.client.flushall()
        self.truth: Truth = new_truth(self.builds, self.client, self.kind, self.dtype)
        self.truth.publish(self.truth.artifacts[0], FIRST_CUT_S, in_place=False)
        self.fragile: list[Fragile] = []
        self.workers: list[Worker] = []
        self.names = 0
        self.cut_s = FIRST_CUT_S
        for _ in range(2):
            self._start(len(self.workers))

    def _start(self, place: int) -> None:
        client = Fragile(self.client)
        self.names += 1
        worker = new_worker(self.builds, client, f"w{self.names}")
        self.fragile[place : place + 1] = [client]
        self.workers[place : place + 1] = [worker]

    def _event(self, user: str, item: int, ts_s: int, name: int) -> Any:
        items = self.truth.items
        return event(user, items[item % len(items)], ts_s, f"e{name}")

    @rule(
        user=st.sampled_from(USERS),
        item=st.integers(0, 9),
        ts_s=times,
        name=st.integers(0, 30),
        in_log=st.booleans(),
    )
    def an_event(self, user: str, item: int, ts_s: int, name: int, in_log: bool) -> None:
        """Names repeat: a second event of a name is a duplicate."""
        known = self.truth.live.get(user, {}).get(f"e{name}")
        again = known or self._event(user, item, ts_s, name)
        self.truth.post(again, in_log=in_log)

    @rule(user=st.sampled_from(USERS), start=times, count=st.integers(2, 30))
    def many_events(self, user: str, start: int, count: int) -> None:
        for number in range(count):
            ts_s = min(NOW_S, start + 60 * (number // 2))
            self.truth.post(
                self._event(user, number, ts_s, 100 + len(self.truth.live.get(user, ())))
            )

    @rule(place=st.integers(0, 1))
    def work(self, place: int) -> None:
        self.workers[place].step()

    @rule(place=st.integers(0, 1), number=st.integers(0, MAX_COMMANDS))
    def killed(self, place: int, number: int) -> None:
        self.fragile[place].kill_before(number)
        try:
            self.workers[place].step()
        except KilledError:
            self._start(place)
        self.fragile[place].heal()

    @rule(place=st.integers(0, 1), number=st.integers(0, MAX_COMMANDS), user=st.sampled_from(USERS))
    def overtaken(self, place: int, number: int, user: str) -> None:
        """Before some command of a worker, an event comes and the other worker folds it."""

        def meanwhile() -> None:
            self.truth.post(self._event(user, number, self.cut_s + number, 60 + number))
            self.workers[1 - place].step()

        self.fragile[place].before(number, meanwhile)
        self.workers[place].step()
        self.fragile[place].heal()

    @rule(item=st.sampled_from([NEW_ITEM, "another"]), value=st.integers(-1, 3))
    def an_item_is_new(self, item: str, value: int) -> None:
        """Registered, with one of some fields, or changed; or removed."""
        if value < 0:
            self.truth.unregister(item)
        else:
            self.truth.register(item, self.truth.some_fields(value))

    @invariant()
    def a_step_was_done(self) -> None:
        type(self).steps += 1

    @rule(kept=st.integers(0, 5))
    def the_stream_is_trimmed(self, kept: int) -> None:
        """Events that only the stream has are lost: the oracle forgets them, too, as it may those of pruned logs."""
        if kept:
            self.client.xtrim(IN_KEY, maxlen=kept, approximate=False)
        else:
            self.client.delete(IN_KEY)
        left: Any = self.client.xrange(IN_KEY)
        waiting = {Event.from_bytes(fields[b"e"]).event_id for _, fields in left}
        for user, events in self.truth.live.items():
            logged: Any = self.client.hkeys(log_key(user))
            known = waiting | {name.decode() for name in logged}
            for name in events.keys() - known:
                del events[name]

    @rule(
        in_place=st.booleans(),
        artifact=st.integers(0, 1),
        ahead_s=st.sampled_from([0, 1, DAY_S, 5 * DAY_S]),
        delivered=st.booleans(),
        works=st.booleans(),
        user=st.sampled_from(USERS),
    )
    def a_publish(
        self, in_place: bool, artifact: int, ahead_s: int, delivered: bool, works: bool, user: str
    ) -> None:
        self.cut_s = min(NOW_S, self.cut_s + ahead_s)
        for known in list(self.truth.live) if delivered else ():
            if known not in self.truth.forgotten:
                self.truth.deliver(known)

        def meanwhile(_: int) -> None:
            self.truth.post(self._event(user, 4, self.cut_s + 7, 90))
            if works:
                for worker in self.workers:
                    worker.step()

        chosen = self.truth.artifacts[artifact]
        self.truth.publish(chosen, self.cut_s, in_place=in_place, progress=meanwhile)

    @rule()
    def a_rollback(self) -> None:
        try:
            pointer = rollback(self.client, MODEL)
        except PublishError:  # the previous generation was overwritten in place
            return
        self.cut_s = max(self.cut_s, pointer.current.as_of_s)

    @rule(user=st.sampled_from(FORGETTABLE))
    @precondition(lambda self: len(self.truth.forgotten) < 2)
    def a_user_is_forgotten(self, user: str) -> None:
        forget_in_cache(self.client, user)
        self.truth.forgotten.add(user)

    @rule()
    def at_rest(self) -> None:
        settle(*self.workers)
        type(self).compared += self.truth.check()
        assert self.client.xlen(IN_KEY) == 0

    def teardown(self) -> None:
        if hasattr(self, "truth"):
            self.at_rest()
            for worker in self.workers:
                worker.targets.close()


@pytest.mark.parametrize("dtype", RECORD_DTYPES)
@pytest.mark.parametrize("kind", CASES)
def test_every_record_is_that_of_a_rebuild(builds, redis, kind, dtype):
    """Some hundred steps; `make property` takes more than 5,000 of each kind in fp32, and 2,000 in fp16 and in int8."""

    class Machine(Following):
        pass

    Machine.builds, Machine.client, Machine.kind, Machine.dtype = builds, redis, kind, dtype
    profile = hypothesis.settings.default
    is_long = profile is not None and profile.max_examples > 1000
    short = 3 if dtype == "fp32" else 2
    run_machine(
        Machine,
        settings=hypothesis.settings(
            max_examples=(170 if dtype == "fp32" else 60) if is_long else short,
            stateful_step_count=40 if is_long else 14,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
    sys.stdout.write(
        f"\n{kind}, {dtype}: {Machine.steps} steps in {Machine.histories} histories, "
        f"{Machine.compared} records compared with a rebuild\n"
    )
    assert Machine.steps >= (5000 if is_long and dtype == "fp32" else 10)
    assert Machine.compared
