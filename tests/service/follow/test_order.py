"""The same events, come in two orders through two histories of the cache, give the same states.

To the bit where a state is made of the whole window; within what additions round where it is added to. The histories
draw the order, which events come twice, which of them the stream alone has, when workers work and are replaced, when
the stream is trimmed, and whether a publish or the workers fold what came.
"""

from collections.abc import Sequence
from random import Random

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from redis import Redis

from models.contract.record import UserRecord
from models.contract.state_spec import RECORD_DTYPES, RecordDtype
from models.live.event import Event
from models.live.keys import IN_KEY
from tests.builds import Builds
from tests.service.follow.test_worker import (
    CASES,
    new_truth,
    new_worker,
    redis,
    server,
    settle,
)
from tests.service.follow.truth import DAY_S, FIRST_CUT_S, Truth, event

__all__ = ["redis", "server"]  # fixtures

USERS = ["u0", "u1", "new", "other"]
purchases = st.lists(
    st.tuples(
        st.sampled_from(USERS),
        st.integers(0, 9),
        st.one_of(
            st.integers(FIRST_CUT_S - 3, FIRST_CUT_S + 3),
            st.integers(FIRST_CUT_S - 8 * DAY_S, FIRST_CUT_S + 20 * DAY_S),
        ),
    ),
    min_size=1,
    max_size=60,
)


class History:
    """One way in which events may come.

    Args:
        builds: make the artifacts.
        client: an empty cache.
        kind: of the state.
        dtype: of the records.
        seed: of all that differs between histories.
    """

    def __init__(
        self, builds: Builds, client: Redis, kind: str, dtype: RecordDtype, seed: int
    ) -> None:
        self.builds, self.client, self.random = builds, client, Random(seed)
        self.truth: Truth = new_truth(builds, client, kind, dtype)
        self.names = 0
        self._replace()

    def _replace(self) -> None:
        self.names += 1
        self.worker = new_worker(self.builds, self.client, f"w{self.names}")

    def run(self, events: Sequence[Event]) -> dict[str, UserRecord]:
        """The record of each user at the end."""
        artifact, draw = self.truth.artifacts[0], self.random
        arriving = [*events, *draw.choices(events, k=len(events) // 3)]
        draw.shuffle(arriving)
        published_at = draw.choice([0, len(arriving) // 2, len(arriving)])
        for place, one in enumerate(arriving):
            if place == published_at:
                self.truth.publish(artifact, FIRST_CUT_S, in_place=False)
            self.truth.post(one, in_log=draw.random() < 0.7)
            if draw.random() < 0.3:
                self.worker.step()
            if draw.random() < 0.05:
                self.worker.targets.close()
                self._replace()
            if draw.random() < 0.05:
                settle(self.worker)
                self.client.delete(IN_KEY)
        if published_at == len(arriving):
            self.truth.publish(artifact, FIRST_CUT_S, in_place=False)
        settle(self.worker)
        self.worker.targets.close()
        self.truth.check()
        generation = self.truth.current()
        found = {user: self.truth.stored(user, generation) for user in USERS}
        return {user: record for user, record in found.items() if record is not None}


def bits(record: UserRecord) -> dict[str, bytes | int]:
    """All that an answer is made of."""
    tensors = {name: values.tobytes() for name, values in record.state.items()}
    return {**tensors, "recent": record.recent.tobytes(), "as_of_s": record.as_of_s}


@pytest.mark.parametrize("dtype", RECORD_DTYPES)
@pytest.mark.parametrize("kind", CASES)
def test_the_order_of_arrival_changes_nothing(builds, redis, kind, dtype):
    profile = hypothesis.settings.default
    is_long = profile is not None and profile.max_examples > 1000

    @hypothesis.settings(
        max_examples=50 if is_long else 3,
        suppress_health_check=list(hypothesis.HealthCheck),
        deadline=None,
    )
    @hypothesis.given(purchases, st.integers(0, 2**32), st.integers(0, 2**32))
    def compare(bought: list[tuple[str, int, int]], first: int, second: int) -> None:
        found = []
        for seed in (first, second):
            redis.flushall()
            history = History(builds, redis, kind, dtype, seed)
            items = history.truth.items
            events = [
                event(user, items[item], ts_s, f"e{name}")
                for name, (user, item, ts_s) in enumerate(bought)
            ]
            found.append(history.run(events))
        one, other = found
        assert one.keys() == other.keys()
        for user in one:
            is_added = any(r.mark is not None and r.mark.folds for r in (one[user], other[user]))
            if not is_added:
                assert bits(one[user]) == bits(other[user]), user
            np.testing.assert_array_equal(one[user].recent, other[user].recent)

    compare()
