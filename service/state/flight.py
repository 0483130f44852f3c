"""One piece of work for all who ask for the same at once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class SingleFlight(Generic[Key, Result]):
    """Runs the work of a key once, however many wait for it. Nothing is kept once it is done.

    A waiter that is cancelled leaves the others and the work alone. What the work raises, every waiter gets.
    """

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[Result]] = {}

    def __len__(self) -> int:
        """Works under way."""
        return len(self._tasks)

    def __contains__(self, key: Key) -> bool:
        """Whether the key's work is under way."""
        return key in self._tasks

    async def do(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result of `work`, or of the same key's work that is under way."""
        task = self._tasks.get(key)
        if task is None or task.done():
            task = self._tasks[key] = asyncio.create_task(self._run(key, work))
        return await asyncio.shield(task)

    async def _run(self, key: Key, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        try:
            return await work()
        finally:
            # Here, not in a callback: whoever asks after an error must not find it.
            del self._tasks[key]
