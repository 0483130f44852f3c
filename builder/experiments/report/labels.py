"""Names beside the points of a plot, moved apart where they would cover each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

FONT_SIZE = 8
STEPS = (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6)
"""Places of a label above and below its point, in lines, in the order they are tried."""


@dataclass(frozen=True)
class Label:
    """A name of a point in the units of the axes, whose error bar reaches `half` up and down."""

    x: float
    y: float
    half: float
    text: str
    color: str


def place_labels(axes: Axes, labels: Sequence[Label]) -> None:
    """Write each name at the first place inside the axes where it covers no point and no other name."""
    axes.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]  # sizes are known after the layout
    taken = [_bar_box(axes, label) for label in labels]
    for label in labels:
        for offset, align in _places():
            text = _write(axes, label, offset, align)
            box = text.get_window_extent()
            is_inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
            if is_inside and not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        else:  # no place is free
            offset, box = (9.0, 0.0), _write(axes, label, (9.0, 0.0), "left").get_window_extent()
        taken.append(box)
        if offset[1]:
            _draw_line(axes, label, offset)


def _bar_box(axes: Axes, label: Label) -> Bbox:
    (x, low), (_, high) = (
        axes.transData.transform((label.x, label.y + half)) for half in (-label.half, label.half)
    )
    return Bbox([[x - 6, low - 5], [x + 6, high + 5]])


def _write(axes: Axes, label: Label, offset: tuple[float, float], align: str) -> Annotation:
    text = axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=offset,
        textcoords="offset points",
        ha=align,
        va="center",
        fontsize=FONT_SIZE,
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
        arrowprops={"arrowstyle": "-", "color": label.color, "alpha": 0.5},
    )
    line.set_in_layout(False)


def _places() -> Iterator[tuple[tuple[float, float], str]]:
    """Offsets from the point, in points, and how the name is aligned."""
    for step in STEPS:
        far = 9.0 + 4 * abs(step)
        yield (far, 1.3 * FONT_SIZE * step), "left"
        yield (-far, 1.3 * FONT_SIZE * step), "right"
