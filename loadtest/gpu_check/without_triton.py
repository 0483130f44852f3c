"""Stand-ins for Triton: the kernels' module can be imported without it, and launching a kernel raises an error."""

from collections.abc import Callable
from typing import Any, NoReturn


class MissingKernel:
    """A kernel that cannot be launched."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, grid: object) -> NoReturn:
        """Refuse a launch.

        Raises:
            ModuleNotFoundError: always.
        """
        raise ModuleNotFoundError(f"{self._name}: the Python package 'triton' is not installed")


class triton:  # noqa: N801 - has the name of the package
    """The part of `triton` that the kernels use when they are defined."""

    @staticmethod
    def jit(function: Callable[..., Any] | None = None, **_: object) -> Any:
        """Decorate a kernel, with or without options."""
        return triton.jit if function is None else MissingKernel(function.__name__)


class tl:  # noqa: N801 - has the name that the kernels use
    """The part of `triton.language` that the kernels' signatures use."""

    constexpr = object
