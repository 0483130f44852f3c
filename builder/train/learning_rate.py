"""The learning rate over a training."""

from collections.abc import Callable

WARM_UP = 0.1
"""Largest share of the steps in which the rate rises. Adagrad's first steps move every weight by the whole rate,
whatever its gradient: without a rise, models start from noise at the rates that they learn best with."""
DROP = 0.3
"""Factor of the rate where validation has stopped improving (`train.drops`)."""


def rise(warm_up: int, steps: int) -> Callable[[int], float]:
    """Share of the rate before each step, counted from 0: it rises over `warm_up` steps, then stays.

    Args:
        warm_up: number of steps; at most `WARM_UP` of `steps` are used.
        steps: most steps of the training.
    """
    over = max(1.0, min(warm_up, WARM_UP * steps))
    return lambda step: min(1.0, (step + 1) / over)


def share_of_rate(step: int, steps: int, final: float) -> float:
    """Share of the rate before a step where the number of steps is known: a linear rise, then a linear fall.

    Args:
        step: 0 to `steps`.
        steps: number of steps of the whole training.
        final: share that the rate falls to after the last step.
    """
    return rise(steps, steps)(step) * (1 - (1 - final) * step / steps)
