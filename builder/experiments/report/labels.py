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
    """Write each name at the nearest place inside the axes where it covers no point, name or line to a name.

    The line to it crosses no point, if there is such a place.
    """
    figure = axes.get_figure(root=True)
    figure.draw_without_rendering()  # type: ignore[union-attr]  # sizes are known after the layout
    per_point = figure.dpi / 72  # type: ignore[union-attr]
    taken = _Taken(axes.bbox, [_bar_box(axes, label) for label in labels])
    tried = [(place, crosses) for crosses in (False, True) for place in _places()]
    for label, own in zip(labels, taken.points, strict=True):
        text = _write(axes, label)
        start = axes.transData.transform((label.x, label.y))
        for (offset, align), crosses in (*tried, (FALLBACK, True)):
            text.set_position(offset)
            text.set_horizontalalignment(align)
            box = text.get_window_extent()
            line = Path([start, start + per_point * np.array(offset)])
            if taken.is_free(box) and taken.is_clear(line, None if crosses else own):
                break
        taken.names.append(box)
        if offset[1] or abs(offset[0]) > 2 * NEAR:
            taken.lines.append(line)
            _draw_line(axes, label, offset)


class _Taken:
    """What names must not cover: points with their bars, names, and lines to names.

    Args:
        frame: the axes.
        points: boxes of the points.
    """

    def __init__(self, frame: BboxBase, points: Sequence[Bbox]) -> None:
        self.frame, self.points = frame, points
        self.names: list[Bbox] = []
        self.lines: list[Path] = []

    def is_free(self, box: Bbox) -> bool:
        """Whether a name fits."""
        frame = self.frame
        is_inside = (
            frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
        )
        if not is_inside or any(box.overlaps(other) for other in (*self.points, *self.names)):
            return False
        return not any(line.intersects_bbox(box, filled=False) for line in self.lines)

    def is_clear(self, line: Path, own: Bbox | None) -> bool:
        """Whether a line crosses no name; and no point but `own`, if that is given."""
        points = [] if own is None else [point for point in self.points if point is not own]
        return not any(line.intersects_bbox(box, filled=False) for box in (*self.names, *points))


def _bar_box(axes: Axes, label: Label) -> Bbox:
    (x, low), (_, high) = (
        axes.transData.transform((label.x, label.y + half)) for half in (-label.half, label.half)
    )
    return Bbox([[x - 6, low - 5], [x + 6, high + 5]])


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
    """Offsets from the point, in points, nearest first, and how the name is aligned."""
    sides: tuple[tuple[int, Literal["left", "right"]], ...] = ((1, "left"), (-1, "right"))
    found = [
        ((side * (NEAR + 4 * min(abs(line), 1) + COLUMN * column), 1.3 * FONT_SIZE * line), align)
        for column in COLUMNS
        for line in LINES
        for side, align in sides
    ]
    yield from sorted(found, key=lambda place: place[0][0] ** 2 + place[0][1] ** 2)
