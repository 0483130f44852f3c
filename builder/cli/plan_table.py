"""What `python -m builder plan` prints."""

from collections.abc import Sequence

from rich.table import Table

from builder.publish.capacity import GIB, HEADROOM, Load, Need

MODES = {
    "rolling": "one build (rolling)",
    "blue_green": "and one to roll back to",
    "blue_green_peak": "and one being written",
}


def plan_table(load: Load, needs: Sequence[Need], replicas: int, shards: int) -> Table:
    """One row for each dtype and number of builds that the cache holds."""
    title = (
        f"{load.model}: {load.users:,} users, {shards} shard(s), {replicas} replica(s) of each; GiB"
    )
    table = Table(title=title)
    for name in ("dtype", "record", "a user", "the cache holds"):
        table.add_column(name)
    for name in ("records", "with replicas", "maxmemory each"):
        table.add_column(name, justify="right")
    for need in needs:
        first = (need.dtype, f"{need.record_bytes:,} B", f"{need.user_bytes:,.0f} B")
        for mode, told in MODES.items():
            sizes = need.gib[mode], need.gib_with_replicas[mode], need.maxmemory_bytes[mode] / GIB
            table.add_row(*first, told, *(f"{size:,.3f}" for size in sizes))
            first = ("", "", "")
        table.add_section()
    return table


def explanation(load: Load) -> str:
    """What the numbers stand on."""
    found = f"measured on {load.measured} keys of the cache" if load.measured else ""
    over = ", ".join(f"{dtype} {size:.0f}" for dtype, size in load.overhead_bytes.items())
    return (
        f"A user takes its record, a key of {load.key_bytes} bytes, and what the server adds "
        f"({found or 'computed for jemalloc'}): {over} bytes.\n"
        f"maxmemory is for one server, primary or replica: its share, times {HEADROOM} for buffers, rewriting and "
        "fragmentation, and the empty server. Give the machine more: saving forks, and copies what changes meanwhile."
    )
