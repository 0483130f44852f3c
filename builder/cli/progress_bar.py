"""The console, and the progress of a step on it: a bar on a terminal, a plain line every few seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Display
from rich.text import Text

from builder.progress import Progress

LINE_EVERY_S = 20.0

console = Console()


@contextmanager
def bar(name: str, *, has_estimate: bool = True) -> Iterator[Progress]:
    """Show how far a step is, until the block ends.

    Args:
        name: name of the step.
        has_estimate: show the time left; False where the parts of the step differ in length.
    """
    if not console.is_terminal:
        yield Lines(name)
        return
    left = [TimeRemainingColumn()] if has_estimate else []
    note = TextColumn("{task.fields[note]}")
    # Transient: the step's own line takes the bar's place.
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _Count())
    with Display(
        *columns, TimeElapsedColumn(), *left, note, console=console, transient=True
    ) as display:
        task = display.add_task(name, total=None, note="")

        def show(done: int, total: int, note: str = "") -> None:
            display.update(task, completed=done, total=total, note=note)

        yield show


class _Count(ProgressColumn):
    """Done and total; empty while the total is not known."""

    def render(self, task: Task) -> Text:
        """The text for a task."""
        known = task.total is not None
        return Text(f"{int(task.completed):,}/{int(task.total or 0):,}" if known else "")


class Lines:
    """Progress as plain text, for logs and pipes: a line at most every `LINE_EVERY_S` seconds.

    Args:
        name: name of the step.
        clock: seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._printed_s = clock()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Print a line if the last one is old enough."""
        now_s = self._clock()
        if now_s - self._printed_s < LINE_EVERY_S:
            return
        self._printed_s = now_s
        line = f"  {self._name}: {done:,} of {total:,}" + (f", {note}" if note else "")
        console.print(line, markup=False, highlight=False, soft_wrap=True)
