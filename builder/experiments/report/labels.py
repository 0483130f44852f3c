"""Names beside the points of a plot, moved apart where they would cover each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox, BboxBase

FONT_SIZE = 8
NEAR = 9.0
"""Points between a point and its name on the same height."""
COLUMNS = range(12)
"""Places of a name beside its point, in steps of `COLUMN` points."""
COLUMN = 40.0
LINES = range(-24, 25)
"""Places of a name above and below its point, in lines."""
BAR_COST = 25.0
"""A name on an error bar is as bad as one that is so many points farther away."""
CROSSING_COST = 40.0
"""The same of a line to a name that crosses a point."""
Place = tuple[tuple[float, float], Literal["left", "right"]]
"""Offset of a name from its point, in points, and how it is aligned."""
FALLBACK: Place = ((NEAR, 0.0), "left")
"""Where no place is free."""


@dataclass(frozen=True)
class Label:
    """A name of a point in the units of the axes, whose error bar reaches `half` up and down."""

    x: float
    y: float
    half: float
    text: str
    color: str
    is_bold: bool = False


def place_labels(axes: Axes, labels: Sequence[Label]) -> None:
    """Write each name inside the axes where it covers no point, other name, or line to a name.

    Of such places it takes the nearest; one on an error bar, or with a line across a point, counts as farther away.
    """
    figure = axes.get_figure(root=True)
    figure.draw_without_rendering()  # type: ignore[union-attr]  # sizes are known after the layout
    scale = figure.dpi / 72  # type: ignore[union-attr]
    taken = _Taken(axes, labels)
    places = list(_places())
    for number, label in enumerate(labels):
        text = _write(axes, label)
        start = axes.transData.transform((label.x, label.y))
        extent = text.get_window_extent()
        size = np.array([extent.width, extent.height])
        best, lowest = FALLBACK, np.inf
        for place in places:
            distance = float(np.hypot(*place[0]))
            if distance >= lowest:
                break
            box, line = _box(start, size, place, scale), _line(start, place, scale)
            if taken.is_free(box, line):
                cost = distance + taken.cost(box, line, number)
                if cost < lowest:
                    best, lowest = place, cost
        offset, align = best
        text.set_position(offset)
        text.set_horizontalalignment(align)
        taken.names.append(_box(start, size, best, scale))
        if offset[1] or abs(offset[0]) > 2 * NEAR:
            taken.lines.append(_line(start, best, scale))
            _draw_line(axes, label, offset)


class _Taken:
    """What names must not cover, in pixels.

    Args:
        axes: of the points.
        labels: of the points.
    """

    def __init__(self, axes: Axes, labels: Sequence[Label]) -> None:
        self.frame: BboxBase = axes.bbox
        self.points = [_around(axes, label, 0.0) for label in labels]
        self.bars = [_around(axes, label, label.half) for label in labels]
        self.names: list[Bbox] = []
        self.lines: list[Path] = []

    def is_free(self, box: Bbox, line: Path) -> bool:
        """Whether a name fits, and its line crosses no name."""
        frame = self.frame
        if not (
            frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
        ):
            return False
        if any(box.overlaps(other) for other in (*self.points, *self.names)):
            return False
        if any(other.intersects_bbox(box, filled=False) for other in self.lines):
            return False
        return not any(line.intersects_bbox(name, filled=False) for name in self.names)

    def cost(self, box: Bbox, line: Path, number: int) -> float:
        """In points, for the bars that the name covers and the points that its line crosses."""
        others = (point for place, point in enumerate(self.points) if place != number)
        covered = sum(box.overlaps(bar) for bar in self.bars)
        crossed = sum(line.intersects_bbox(point, filled=False) for point in others)
        return BAR_COST * covered + CROSSING_COST * crossed


def _around(axes: Axes, label: Label, half: float) -> Bbox:
    (x, low), (_, high) = (
        axes.transData.transform((label.x, label.y + side)) for side in (-half, half)
    )
    wide = 2 if half else 6
    return Bbox([[x - wide, low - 5], [x + wide, high + 5]])


def _box(start: np.ndarray, size: np.ndarray, place: Place, scale: float) -> Bbox:
    (x, y), align = place
    left = start[0] + scale * x - (size[0] if align == "right" else 0.0)
    low = start[1] + scale * y - size[1] / 2
    return Bbox([[left, low], [left + size[0], low + size[1]]])


def _line(start: np.ndarray, place: Place, scale: float) -> Path:
    return Path([start, start + scale * np.array(place[0])])


def _write(axes: Axes, label: Label) -> Annotation:
    text = axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(NEAR, 0),
        textcoords="offset points",
        va="center",
        fontsize=FONT_SIZE,
        fontweight="bold" if label.is_bold else "normal",
        color=label.color,
    )
    text.set_in_layout(False)  # else the axes would move under the names
    return text


def _draw_line(axes: Axes, label: Label, offset: tuple[float, float]) -> None:
    line = axes.annotate(
        "",
        (label.x, label.y),
        xytext=offset,
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": label.color, "alpha": 0.5, "lw": 0.7},
    )
    line.set_in_layout(False)


def _places() -> Iterator[Place]:
    """Places of a name, nearest first."""
    sides: tuple[tuple[int, Literal["left", "right"]], ...] = ((1, "left"), (-1, "right"))
    found = [
        ((side * (NEAR + 4 * min(abs(line), 1) + COLUMN * column), 1.3 * FONT_SIZE * line), align)
        for column in COLUMNS
        for line in LINES
        for side, align in sides
    ]
    yield from sorted(found, key=lambda place: place[0][0] ** 2 + place[0][1] ** 2)
