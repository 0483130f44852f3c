"""The learning rate over a training: a linear rise, then a linear fall."""

WARM_UP = 0.1
"""Share of the steps in which the rate rises. Adagrad's first steps move every weight by the whole rate, whatever its
gradient: without a rise, models start from noise at the rates that they learn best with."""


def share_of_rate(step: int, steps: int, final: float) -> float:
    """Share of the configured learning rate before step `step`, counted from 0.

    Args:
        step: 0 to `steps`.
        steps: number of steps of the whole training.
        final: share that the rate falls to after the last step.
    """
    rise = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return rise * (1 - (1 - final) * step / steps)
