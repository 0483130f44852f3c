"""Options of the command line that take some of a list of names."""

from collections.abc import Callable, Iterable, Sequence

import typer


def some_of(known: Iterable[str]) -> Callable[[Sequence[str] | None], Sequence[str] | None]:
    """A Typer callback that refuses names that are not known."""
    names = tuple(known)

    def check(chosen: Sequence[str] | None) -> Sequence[str] | None:
        if unknown := set(chosen or ()) - set(names):
            got = ", ".join(sorted(unknown))
            raise typer.BadParameter(f"got {got}, expected some of: {', '.join(names)}")
        return chosen

    return check
