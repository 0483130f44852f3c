"""Records: the sample that is read back after a publish."""

import numpy as np

from builder.publish.records import SAMPLE_SIZE, Sample


def test_the_sample_is_uniform_and_the_same_for_the_same_seed():
    def drawn(seed: str) -> list[int]:
        sample = Sample(seed)
        for number in range(1000):
            sample.offer(str(number), b"")
        return sorted(int(user_id) for user_id, _ in sample.hashes)

    assert drawn("a") == drawn("a") != drawn("b")
    assert len(set(drawn("a"))) == SAMPLE_SIZE
    seen = np.bincount(np.concatenate([drawn(str(seed)) for seed in range(100)]), minlength=1000)
    tenths = seen.reshape(10, 100).sum(1)  # 1,000 expected in each, standard deviation 28
    assert (np.abs(tenths - 1000) < 120).all()
