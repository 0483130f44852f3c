"""Checks of a model's or a layer's sizes, with one form of error text."""


def check_at_least(least: int, **sizes: int) -> None:
    """Raise ValueError unless each of `sizes`, by name, is `least` or more."""
    for name, size in sizes.items():
        if size < least:
            raise ValueError(f"{name}: got {size}, expected at least {least}")


def check_divides(name: str, divisor: int, what: str, size: int) -> None:
    """Raise ValueError unless `divisor`, which is called `name`, divides `size`, which is called `what`."""
    if size % divisor:
        raise ValueError(f"{name}: got {divisor}, expected a divisor of {what} = {size}")
