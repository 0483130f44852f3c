"""A build of which every step is done, over a cache server of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from builder.pipeline import STEPS, Build, run_step
from builder.recipe.recipe import Recipe
from builder.run_folder import RunFolder
from models.contract.embedded_cache import stop_server


@contextmanager
def finished_build(recipe: Recipe, home: Path) -> Iterator[Build]:
    """Build in `home`; the cache server runs until the block ends, and torch has the threads that it had."""
    threads = torch.get_num_threads()
    cache = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    build = Build(recipe, RunFolder(home / "run"), home / "artifacts", f"embedded:{cache}")
    with build.folder.locked():
        for name in STEPS:
            run_step(build, name)
    torch.set_num_threads(threads)
    yield build
    stop_server(cache)
    shutil.rmtree(cache)
