"""A history as it is: the state of models that search it online, 8 bytes an event."""

from jaxtyping import Float
from torch import Tensor

from models.base import UserState
from models.batch import User
from models.contract.record import StateSpec, TensorSpec


def rows_spec(profile_dim: int, length: int) -> StateSpec:
    """The profile and, per event, its catalogue row and age."""
    return (
        TensorSpec("profile", (profile_dim,)),
        TensorSpec("rows", (length,), "int32"),
        TensorSpec("event_ages", (length,), "int32"),
    )


def rows_state(profile: Float[Tensor, "B P"], user: User, length: int) -> UserState:
    """What `rows_spec` says, of the latest `length` events.

    Args:
        profile: its embedding.
        user: whose history it is.
        length: of the state; at most the history's.
    """
    rows, ages = user.history[:, -length:], user.ages[:, -length:]
    return {"profile": profile, "rows": rows.int(), "event_ages": ages.int()}
