"""Says that an array of the latest items is longer than it is: the sanitizer must end this process.

The kernel reads that array from its start to the length that it is told, so the first read beyond it is of the bytes
behind the array, which the sanitizer guards. A read further away could hit another array, or one that was freed.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from service.native.library import open_library
from service.runtime.engines.native.engine import NativeEngine
from tests.service.runtime.engines.native.plans import DEFAULT, random_plan, random_slate


class Short(np.ndarray):
    """An array that says it is one number longer than it is."""

    def __len__(self) -> int:
        return super().__len__() + 1

    @property  # type: ignore[misc]
    def shape(self) -> tuple[int, ...]:
        return (len(self),)


engine = NativeEngine(random_plan(), open_library(Path(sys.argv[1])), "generic")
slate = random_slate(DEFAULT, 60, 100, 20)
engine.score_many([replace(slate, recent=slate.recent.view(Short))])
