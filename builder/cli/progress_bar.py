"""The terminal, and progress bars on it."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip

console = Console()


class Bar:
    """A progress bar for one step."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self.bars, self.task = bars, task

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show how far the step is."""
        self.bars.update(self.task, completed=done, total=total, note=note)


@contextmanager
def bar(name: str, *, has_estimate: bool = True) -> Iterator[Bar]:
    """A bar; without an estimate where the parts differ in length, and the notes say how long it will take."""
    columns = [
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), *([TimeRemainingColumn()] if has_estimate else []),
        TextColumn("{task.fields[note]}"),
    ]  # fmt: skip
    with Progress(*columns, console=console) as bars:
        yield Bar(bars, bars.add_task(name, total=None, note=""))
