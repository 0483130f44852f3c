"""Scores plans of many sizes with a library that sanitizers watch; run by `test_sanitizers.py` in a process of its own.

The sanitizer ends the process at the first read or write beyond an array: all arrays have exactly the size of the plan.
"""

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.contract.plan import PlanSizes
from service.native.library import open_library
from service.runtime.engines.native.engine import NativeEngine, supported_isas
from tests.service.runtime.engines.native.plans import (
    DEFAULT,
    TINY_SIZES,
    assert_scores,
    poison,
    random_plan,
    random_slate,
)


def random_sizes(rng: np.random.Generator) -> PlanSizes:
    def some(most: int, least: int = 1, at_most: int = 4) -> tuple[int, ...]:
        return tuple(rng.integers(1, most, rng.integers(least, at_most)).tolist())

    sizes = rng.integers(1, (40, 140, 9, 9, 70, 20, 7)).tolist()
    items, rank, heads, short_heads, recent, profile, embedding = sizes
    return PlanSizes(
        num_items=items + 2, widths=some(37), described=profile // 2, rank=rank, heads=heads,
        short_heads=short_heads, recent=recent, profile=profile, embedding=embedding, context=some(9, 0),
        candidate=some(9, 0), layers=some(90), slope=0.1,
    )  # fmt: skip


def in_threads(work: Callable[[], None], most: int) -> None:
    for _ in range(most):
        threading.Thread(target=work).start()


def main() -> None:
    library, rng = open_library(Path(sys.argv[1])), np.random.default_rng(0)
    for isa in supported_isas(library):
        for sizes in (DEFAULT, TINY_SIZES, *(random_sizes(rng) for _ in range(12))):
            plan = random_plan(sizes)
            engine = NativeEngine(plan, library, isa)
            poison(engine)
            slates = [
                random_slate(sizes, candidates, filled, recent)
                for candidates, filled, recent in (
                    (1, sizes.rank, sizes.recent + 3), (49, sizes.rank // 2, 1), (97, 0, 0),
                )
            ]  # fmt: skip
            assert_scores(engine, plan, slates)
            shared = random_slate(sizes, 200, sizes.rank, sizes.recent)
            assert_scores(engine, plan, [replace(shared, help=in_threads)])
            engine.close()
        sys.stdout.write(f"{isa}\n")


if __name__ == "__main__":
    main()
