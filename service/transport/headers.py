"""A request's headers, looked up by name."""

from collections.abc import Mapping
from typing import cast

from starlette.types import Scope

KEPT = "absorb.headers"
"""Key of the scope under which the result is kept."""

Headers = Mapping[bytes, bytes]
"""Header -> value; names in lower case."""


def first_of_each(scope: Scope) -> Headers:
    """The headers of an ASGI scope; of several with one name, the first."""
    headers = scope.get(KEPT)
    if headers is None:
        headers = scope[KEPT] = dict(reversed(scope["headers"]))
    return cast(Headers, headers)
