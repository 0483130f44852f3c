"""Records: the batches that are written, and the sample that is read back after a publish."""

import numpy as np
import pytest

from builder.publish.blue_green import publish
from builder.publish.lock import hold_lock
from builder.publish.records import SAMPLE_SIZE, Sample, write
from tests.builder.published import SPEC, generation_of, raw_record, records


def test_the_sample_is_uniform_and_the_same_for_the_same_seed():
    def drawn(seed: str) -> list[int]:
        sample = Sample(seed)
        for number in range(1000):
            sample.offer(str(number), b"")
        return sorted(int(user_id) for user_id, _, _ in sample.hashes)

    assert drawn("a") == drawn("a") != drawn("b")
    assert len(set(drawn("a"))) == SAMPLE_SIZE
    seen = np.bincount(np.concatenate([drawn(str(seed)) for seed in range(100)]), minlength=1000)
    tenths = seen.reshape(10, 100).sum(1)  # 1,000 expected in each, standard deviation 28
    assert (np.abs(tenths - 1000) < 120).all()


def test_the_sample_of_a_generation_is_the_same_each_time(client):
    generation = generation_of(3 * SAMPLE_SIZE)
    with hold_lock(client, "lrea") as lock:
        one, other = (
            write(client, generation, records(3 * SAMPLE_SIZE), SPEC, lock, None).hashes
            for _ in range(2)
        )
    assert len(one) == SAMPLE_SIZE
    assert one == other


@pytest.mark.parametrize(("more_bytes", "expected"), [(0, [3, 3, 3]), (1, [4, 4, 1])])
def test_a_batch_ends_with_the_record_that_fills_it(
    client, monkeypatch, more_bytes: int, expected: list[int]
):
    monkeypatch.setattr(
        "builder.publish.records.BATCH_BYTES", 3 * len(raw_record("user:0")) + more_bytes
    )
    sizes: list[int] = []
    publish(client, generation_of(9), records(9), SPEC, progress=sizes.append)
    assert sizes == expected
