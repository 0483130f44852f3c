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
        values["users"] = f"{model.records.get(current.place, 0):,} of {current.num_users:,}"
    values["roll back to"] = previous.name if previous else "nothing"
    if model.record_bytes:
        values["bytes per user"] = f"{model.record_bytes:,}"
    values["unfinished"] = ", ".join(model.unfinished) or "none"
    values["building now"] = model.lock_holder or "no builder"
    return values
