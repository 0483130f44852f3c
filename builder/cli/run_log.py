"""The log of a run: everything in a file of the run folder, warnings on the terminal too."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.logging import RichHandler

from builder.cli.progress_bar import console
from builder.run_folder import RunFolder

PACKAGES = ("builder", "models")
"""Packages that log from INFO on; libraries log from WARNING on."""


@contextmanager
def run_log(folder: RunFolder) -> Iterator[None]:
    """Log to `log.txt` in the folder, after what is there, until the block ends."""
    terminal = RichHandler(logging.WARNING, console, show_path=False, show_time=False)
    file = logging.FileHandler(folder.log, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(terminal)
    root.addHandler(file)
    levels = {name: logging.getLogger(name).level for name in PACKAGES}
    for name in PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        root.removeHandler(file)
        root.removeHandler(terminal)
        file.close()
