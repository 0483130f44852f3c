"""Gives the kernel a scratch that is shorter than said: the sanitizer must end this process."""

import sys
from pathlib import Path

import numpy as np

from service.native.library import open_library
from service.runtime.engines.native.engine import NativeEngine
from tests.service.runtime.engines.native.plans import DEFAULT, random_plan, random_slate


class Short(np.ndarray):
    """An array that says it is longer than it is."""

    def __len__(self) -> int:
        return 1 << 30


engine = NativeEngine(random_plan(), open_library(Path(sys.argv[1])), "generic")
engine._own.scratch = np.empty(engine._scratch_floats // 2, np.float32).view(Short)
engine.score_many([random_slate(DEFAULT, 60, 100, 20)])
