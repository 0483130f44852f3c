"""Limits of a request's inputs by their shapes: checked before any element is decoded, whatever transport sent them."""

import math
from collections.abc import Sequence

from models.contract.errors import RequestError
from service.transport.limits import MARGIN, JsonBound, SlateLimits

USER_ID, CANDIDATES, RECENT = "user_id", "candidates", "recent"
MAX_USERS = 64
"""Users of one request. Each is looked up and scored separately."""
MAX_INPUTS = 128
"""Inputs of one request: ids, context fields and candidate fields."""
MAX_OUTPUTS = 16
"""Requested outputs of one request, repeated ones included."""
MAX_PARAMETERS = 64
"""Parameters of a request or of one of its tensors."""
JSON_BOUND = JsonBound(MARGIN * MAX_INPUTS * (MAX_USERS + 4), None)
"""An input is an object with a shape, parameters and data, in which each user may have a list."""

Shape = tuple[int, ...]


def check_shapes(inputs: Sequence[tuple[str, Shape]], limits: SlateLimits) -> None:
    """Check how many elements a request's inputs have by their shapes.

    Args:
        inputs: name and shape of each.
        limits: most candidates and recent items for a user.

    Raises:
        RequestError: there are too many inputs, users, or elements in an input.
    """
    check_number("inputs", len(inputs), MAX_INPUTS)
    users = max((_extent(shape) for name, shape in inputs if name == USER_ID), default=1)
    if users > MAX_USERS:
        raise RequestError(f"inputs[{USER_ID}]", users, f"1 to {MAX_USERS} user ids")
    for name, shape in inputs:
        most = limits.recent if name == RECENT else limits.candidates
        if _extent(shape) > most * users:
            expected = f"at most {most} elements for each of {users} user(s)"
            raise RequestError(f"inputs[{name}].shape", list(shape), expected)


def check_number(field: str, number: int, most: int) -> None:
    """Check the length of a list or an object before its elements are read.

    Raises:
        RequestError: it is above `most`.
    """
    if number > most:
        raise RequestError(field, number, f"at most {most} of them")


def _extent(shape: Shape) -> int:
    """Elements of a tensor, where an empty axis counts as one: JSON has a list for each row without elements."""
    return math.prod(max(size, 1) for size in shape)
