"""A cache client that is interrupted before its n-th command: by a kill, or by what another worker does there."""

from collections.abc import Callable
from types import TracebackType
from typing import Any


class KilledError(BaseException):
    """The process is gone. Not an Exception: nobody may handle it."""


class Fragile:
    """Passes every command on, one at a time, also those of a pipeline, and counts them.

    Attributes:
        commands: number of commands so far.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._left: int | None = None
        self._interrupt: Callable[[], None] = lambda: None
        self.commands = 0

    def before(self, number: int, interrupt: Callable[[], None]) -> None:
        """Call `interrupt` once, before the `number`-th command from now on; 0: before the next one."""
        self._left, self._interrupt = number, interrupt

    def kill_before(self, number: int) -> None:
        """Be killed before the `number`-th command from now on."""

        def kill() -> None:
            raise KilledError

        self.before(number, kill)

    def heal(self) -> None:
        """Be interrupted no more."""
        self._left = None

    def pipeline(self, transaction: bool = True) -> "FragilePipeline":
        assert not transaction, "a transaction is one command"
        return FragilePipeline(self)

    def send(self, name: str, *arguments: Any, **options: Any) -> Any:
        """One command, unless it is interrupted."""
        self.commands += 1
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self._left = None
                self._interrupt()
        return getattr(self._client, name)(*arguments, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **options: self.send(name, *arguments, **options)


class FragilePipeline:
    """Commands that are sent one after the other when the pipeline is executed."""

    def __init__(self, client: Fragile) -> None:
        self._client = client
        self._calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __enter__(self) -> "FragilePipeline":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def note(*arguments: Any, **options: Any) -> None:
            self._calls.append((name, arguments, options))

        return note

    def execute(self) -> list[Any]:
        calls, self._calls = self._calls, []
        return [
            self._client.send(name, *arguments, **options) for name, arguments, options in calls
        ]
