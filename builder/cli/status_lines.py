"""What `absorb status` prints: a block of lines for each model. Names are to be copied, so no column cuts them."""

from collections.abc import Iterable

from builder.publish.status import ModelStatus


def status_lines(url: str, models: Iterable[ModelStatus], default: str | None) -> str:
    """What the cache holds.

    Args:
        url: address of the cache, without its password.
        models: one block each.
        default: model that answers requests that name none; None: no publish has set one.
    """
    blocks = [_block(model) for model in models] or ["no model is published"]
    return "\n".join([f"cache {url}", f"default model: {default or 'none yet'}", *blocks])


def _block(model: ModelStatus) -> str:
    lines = "".join(f"\n  {name:<16}{value}" for name, value in _values(model).items())
    return f"{model.model}{lines}"


def _values(model: ModelStatus) -> dict[str, str]:
    current = model.pointer.current if model.pointer else None
    previous = model.pointer.previous if model.pointer else None
    values = {"serves": model.problem or (current.name if current else "nothing")}
    if current:
        values["artifact"] = current.artifact_id
        values["users"] = _users(model.records.get(current.place, 0), current.num_users)
    values["roll back to"] = previous.name if previous else "nothing"
    if model.record_bytes:
        values["bytes per user"] = f"{model.record_bytes:,}"
    values["unfinished"] = ", ".join(model.unfinished) or "none"
    values["building now"] = model.lock_holder or "no builder"
    return values


def _users(records: int, built: int) -> str:
    """Workers write records of users whom the build does not know, too."""
    if records <= built:
        return f"{records:,} of {built:,}"
    return f"{built:,} of the build, {records - built:,} of live events"
