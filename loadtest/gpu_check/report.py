"""The page and the plot of a check: `gpu_check.json` -> `table.md` and `device-times.png`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from loadtest.gpu_check import engine_parts, history, machine, parity, serving, speed

TABLE_FILE = "table.md"
PLOT_FILE = "device-times.png"
HIDDEN_FACTS = ("platform",)
DEVICE_ENGINES = (
    "engine torch",
    "fused graph",
    "torch compiled, graph",
    "torch graph",
    "torch eager",
    "onnxruntime cuda, bound",
)
"""Engines with times on the device, in the order of the legend."""
WHOLE_ENGINES = ("onnxruntime cuda, plain", "onnxruntime cpu, all threads")
"""Engines that are timed as a whole only: from host memory to host memory."""
ENGINE_NAMES = ("engine torch", "fused graph")
"""The engine of the service, and the prototype before it."""
FUSED_TARGETS_US = {1024: 60.0, 4096: 150.0}
"""B -> limit of the fused engine's device p50 for one user."""
HTTP_TARGET_MS = 1.0
"""Limit of a whole request's p50 at B = 1,024, one request at a time."""
HTTP_SLATE = 1024
HTTP_SERVICES = {"cuda": "on CUDA", "engine torch": "with the engine torch"}
LEGEND = (
    "device: between two events on the device. hit: from host memory to host memory, with the user's state on the "
    "device. miss: the same, and the state is copied first."
)
Rows = Sequence[Mapping[str, Any]]
Parts = Mapping[str, Any]


def write_report(content: Mapping[str, Any], out: Path) -> None:
    """Write the page and the plot.

    Args:
        content: from `read_results`.
        out: folder of the page and the plot.

    Raises:
        ValueError: the content has no parts.
    """
    if not content.get("parts"):
        raise ValueError("results: got no parts, expected those that `gpu-check run` writes")
    parts = content["parts"]
    has_plot = bool(_times(parts))
    (out / TABLE_FILE).write_text(page(parts, has_plot))
    if has_plot:
        plot(_times(parts), out / PLOT_FILE)


def page(parts: Parts, has_plot: bool) -> str:
    """The page in Markdown."""
    sections = [
        ("Parts", _parts_table(parts)),
        ("Targets", _targets_table(parts)),
        ("Machine", _machine_table(parts)),
        ("Limits of the device", _markdown(_rows(parts, "machine", machine.LIMITS))),
        (
            "Largest differences from ONNX Runtime on one CPU thread",
            _parity_table(parts),
        ),
        ("Times, p50 / p99 in µs", _times_table(_times(parts))),
        (
            "The engine against the device's limits",
            _markdown(_rows(parts, "engine", engine_parts.FLOOR)),
        ),
        (
            "The engine by filled slots, µs",
            _markdown(_rows(parts, "engine", engine_parts.FILLED)),
        ),
        ("The service: scores", _markdown(_rows(parts, "service", serving.ANSWERS))),
        (
            "The service: closed loop over loopback HTTP, ms",
            _markdown(_rows(parts, "service", serving.LOOP)),
        ),
        ("Length of the history, µs", _markdown(_rows(parts, "history", history.TABLE))),
        ("Notes", _notes(parts)),
    ]
    lines = ["# GPU check: all figures", "", "Written by `absorb gpu-check report`.", ""]
    if has_plot:
        lines += [f"![p50 against candidates, for each engine]({PLOT_FILE})", ""]
    for title, section in sections:
        if section:
            lines += [f"## {title}", "", *section, ""]
    return "\n".join(lines)


def targets(parts: Parts) -> list[tuple[str, float, float, str]]:
    """Targets that have a figure: name, figure, limit, unit."""
    measured = []
    for row in _times(parts):
        limit = FUSED_TARGETS_US.get(row["B"])
        if row["engine"] in ENGINE_NAMES and row["users"] == 1 and limit is not None:
            name = f"fused engine, device p50 at B = {row['B']:,}"
            measured.append((name, row["device p50"], limit, "µs"))
    for row in _rows(parts, "service", serving.LOOP):
        if row["service"] in HTTP_SERVICES and (row["B"], row["concurrency"]) == (HTTP_SLATE, 1):
            name = f"whole HTTP request {HTTP_SERVICES[row['service']]}, p50 at B = {HTTP_SLATE:,}"
            measured.append((name, row["p50"], HTTP_TARGET_MS, "ms"))
    return measured


def _targets_table(parts: Parts) -> list[str]:
    rows = [
        {
            "target": f"{name} ≤ {limit:g} {unit}",
            "measured": f"{_shown(figure)} {unit}",
            "verdict": "met" if figure <= limit else "missed",
        }
        for name, figure, limit, unit in targets(parts)
    ]
    return _markdown(rows)


def _parts_table(parts: Parts) -> list[str]:
    rows = [
        {"part": name, "status": _one_line(part["status"]), "seconds": part.get("seconds")}
        for name, part in parts.items()
    ]
    return _markdown(rows)


def _machine_table(parts: Parts) -> list[str]:
    facts = _rows(parts, "machine", machine.MACHINE)
    return _markdown([row for row in facts if row["name"] not in HIDDEN_FACTS])


def _parity_table(parts: Parts) -> list[str]:
    rows = [*_rows(parts, "parity", parity.TABLE), *_rows(parts, "fused", parity.TABLE)]
    whole = [row for row in rows if row["inputs"] == "all"]
    return _markdown([{k: v for k, v in row.items() if k != "inputs"} for row in whole])


def _times_table(times: Rows) -> list[str]:
    rows = []
    for row in times:
        cells = {"engine": row["engine"], "users": row["users"], "B": f"{row['B']:,}"}
        for path in ("device", "hit", "miss"):
            if f"{path} p50" in row:
                p50, p99 = row[f"{path} p50"], row[f"{path} p99"]
                cells[path] = f"{_shown(p50)} / {_shown(p99)}"
        rows.append(cells)
    columns = ("engine", "users", "B", "device", "hit", "miss")
    return [LEGEND, "", *_markdown(rows, columns)] if rows else []


def _notes(parts: Parts) -> list[str]:
    return [
        f"- {name}: {_one_line(note)}" for name, part in parts.items() for note in part["notes"]
    ]


def plot(times: Rows, path: Path) -> None:
    """p50 against candidates, one line for each engine; one panel for each number of users."""
    mpl.use("agg")
    from matplotlib import pyplot  # after the backend is chosen: there may be no display

    users = sorted({row["users"] for row in times})
    figure, panels = pyplot.subplots(
        1,
        len(users),
        figsize=(5.5 * len(users), 4.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, count in zip(panels[0], users, strict=True):
        for number, engine in enumerate((*DEVICE_ENGINES, *WHOLE_ENGINES)):
            is_device = engine in DEVICE_ENGINES
            column = "device p50" if is_device else "miss p50"
            points = [(row["B"], row[column]) for row in _of(times, engine, count) if column in row]
            if points:
                label = f"{engine} ({'device' if is_device else 'whole call'})"
                style = "o-" if is_device else "s--"
                axes.plot(*zip(*points, strict=True), style, color=f"C{number}", label=label)
        slates = sorted({row["B"] for row in times if row["users"] == count})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(slates, [f"{slate:,}" for slate in slates])
        axes.yaxis.set_major_formatter("{x:,.0f}")
        title = "one user" if count == 1 else f"{count} users in one run"
        axes.set(xlabel="candidates of each user", title=title)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("p50, µs")
    panels[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _of(times: Rows, engine: str, users: int) -> Iterable[Mapping[str, Any]]:
    return (row for row in times if (row["engine"], row["users"]) == (engine, users))


def _times(parts: Parts) -> Rows:
    return [row for name in parts for row in _rows(parts, name, speed.TABLE)]


def _rows(parts: Parts, part: str, table: str) -> Rows:
    rows: Rows = parts.get(part, {}).get("tables", {}).get(table, [])
    return rows


def _markdown(rows: Rows, columns: Sequence[str] = ()) -> list[str]:
    """Rows as lines of a table; no line if there are no rows."""
    if not rows:
        return []
    names = columns or list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([_shown(row.get(n)) for n in names] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
    return str(value)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")
