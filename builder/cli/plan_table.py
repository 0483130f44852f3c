"""The tables that `absorb plan` prints."""

from collections.abc import Sequence

from rich.table import Table

from builder.publish.capacity import GIB, HEADROOM, Load, Need
from builder.publish.live_capacity import STREAM_BYTES

MODES = {
    "rolling": "one generation (rolling)",
    "blue_green": "and the one to roll back to",
    "blue_green_peak": "and the one being written",
}


def plan_table(load: Load, needs: Sequence[Need], replicas: int, shards: int) -> Table:
    """One row for each dtype and number of generations that the cache holds."""
    title = (
        f"{load.model}: {load.users:,} users, {shards} shard(s), {replicas} replica(s) of each; GiB"
    )
    table = Table(title=title)
    for name in ("dtype", "record", "a user", "the cache holds"):
        table.add_column(name)
    for name in ("in all", "with replicas", "maxmemory each"):
        table.add_column(name, justify="right")
    for need in needs:
        first = (need.dtype, f"{need.record_bytes:,} B", f"{need.user_bytes:,.0f} B")
        for mode, words in MODES.items():
            sizes = need.gib[mode], need.gib_with_replicas[mode], need.maxmemory_bytes[mode] / GIB
            table.add_row(*first, words, *(f"{size:,.3f}" for size in sizes))
            first = ("", "", "")
        table.add_section()
    return table


def parts_table(load: Load, needs: Sequence[Need]) -> Table:
    """One row for each thing that the cache holds; of records, one for each dtype."""
    table = Table(title="What it is; GiB in all primaries")
    table.add_column("what")
    for name in ("a user", *MODES.values()):
        table.add_column(name, justify="right")
    for need in needs:
        sizes = [need.parts[mode]["records"] for mode in MODES]
        table.add_row(f"records, {need.dtype}", *_cells(need.user_bytes, sizes))
    table.add_section()
    each = {"base histories": load.live.history_bytes, "live logs": load.live.log_bytes}
    for name, user in {**each, "streams": None}.items():
        table.add_row(name, *_cells(user, [needs[0].parts[mode][name] for mode in MODES]))
    return table


def _cells(user_bytes: float | None, sizes: Sequence[float]) -> list[str]:
    user = "" if user_bytes is None else f"{user_bytes:,.0f} B"
    return [user, *(f"{size:,.3f}" for size in sizes)]


def explanation(load: Load) -> str:
    """How the numbers are computed."""
    source = f"measured on {load.measured} keys of the cache" if load.measured else ""
    largest = (
        "Records are counted at their largest: users who do not fill every row take less. `absorb plan model` measures "
        "what is published, `absorb plan recipe` the users of a log.\n"
        if load.is_largest
        else ""
    )
    over = ", ".join(f"{dtype} {size:.0f}" for dtype, size in load.overhead_bytes.items())
    return (
        f"{largest}Memory of a user: the record, a key of {load.key_bytes} bytes, and the server's overhead "
        f"({source or 'computed for jemalloc'}): {over} bytes.\n"
        f"{_live(load)}"
        f"maxmemory is for one server, primary or replica: its share of the records, times {HEADROOM} for buffers, "
        "rewriting and fragmentation, plus an empty server. The machine needs more: saving forks the server, and every "
        "page that changes meanwhile is copied."
    )


def _live(load: Load) -> str:
    """What following live events takes."""
    live = load.live
    history = (
        "Base histories, what a build knew of each user, are there once in each generation. "
        if live.history_bytes
        else "No base histories: states of users that the build knows do not follow events. "
    )
    streams = ", ".join(
        f"{name} {size / (1 << 20):,.0f} MiB" for name, size in STREAM_BYTES.items()
    )
    return (
        f"{history}Logs hold {live.events:g} live events of a user, on average (--live-events): those since the cut of "
        f"the older generation, and of 7 days before. Streams are counted when they are full: {streams}.\n"
    )
