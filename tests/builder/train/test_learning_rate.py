"""The learning rate rises, then falls to its final share, however many steps there are."""

import numpy as np
import pytest

from builder.train.learning_rate import WARM_UP, share_of_rate


@pytest.mark.parametrize("final", [0.0, 0.05])
@pytest.mark.parametrize("steps", [1, 7, 100, 1500])
def test_the_rate_rises_then_falls_to_its_final_share(steps: int, final: float) -> None:
    shares = [share_of_rate(step, steps, final) for step in range(steps)]
    top = int(np.argmax(shares))
    assert np.all(np.diff(shares[: top + 1]) > 0)
    assert np.all(np.diff(shares[top:]) < 0)
    assert top <= WARM_UP * steps
    assert 0 < min(shares) <= max(shares) <= 1
    assert final < shares[-1] <= final + max(1 - final, 0) / steps + 1e-12
    assert share_of_rate(steps, steps, final) == pytest.approx(final)
