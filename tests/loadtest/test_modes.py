"""The table of `loadtest.modes`; its measuring is that of `loadtest.peers`."""

import os

import numpy as np

from loadtest.modes import CELLS, modes, table
from loadtest.peers.cells import measured


def test_every_core_has_a_process_of_its_own() -> None:
    several = modes()["a process per core"]

    assert several.workers == (len(os.sched_getaffinity(0)),)
    assert several.environment["ABSORB_PROCESSES"] == "{workers}"


def test_a_row_is_the_median_of_its_rounds_with_the_extremes() -> None:
    rounds = [measured(np.full(100, took_s), 1.0) for took_s in (0.001, 0.003, 0.002)]
    found = {"mode": dict.fromkeys(CELLS, rounds)}

    head, _, *rows = table(found)

    assert head.startswith("| at a time | B |")
    assert len(rows) == len(CELLS)
    assert (
        rows[0] == "| 1 | 20 | mode | 100 (100 to 100) | 2.00 (1.00 to 3.00) | 2.0 (1.0 to 3.0) |"
    )
