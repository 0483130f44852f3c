"""The history itself as a state, for models that search it online: 8 bytes per event."""

from jaxtyping import Float
from torch import Tensor

from models.base import UserState
from models.batch import User
from models.contract.record import StateSpec, TensorSpec


def rows_spec(profile_dim: int, length: int) -> StateSpec:
    """The profile's embedding and, per event, its catalogue row and age bucket."""
    return (
        TensorSpec("profile", (profile_dim,)),
        TensorSpec("rows", (length,), "int32"),
        TensorSpec("event_ages", (length,), "int32"),
    )


def rows_state(profile: Float[Tensor, "B P"], user: User, length: int) -> UserState:
    """The state that `rows_spec` describes.

    Args:
        profile: embedding of the profile.
        user: the user with the history.
        length: number of latest events to keep; at most the length of the history.
    """
    rows, ages = user.history[:, -length:], user.ages[:, -length:]
    return {"profile": profile, "rows": rows.int(), "event_ages": ages.int()}
