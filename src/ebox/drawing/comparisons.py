"""Charts that compare choices: what each costs against its time, and what would turn a result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ebox.drawing.charts import WIDTH, ChartAxis, Frame, draw_axes, draw_grid, unit_axis, wrap_chart
from ebox.drawing.numbers import Real

_KEY_PITCH, _CHARACTER_WIDTH, _APART = 18.0, 8.2, 17.0


@dataclass(frozen=True)
class Spot:
    """One choice: where it stands, its style, its words if it has some, and whether it is the one that is advised."""

    x: Real
    y: Real
    style: str
    label: str = ""
    advised: bool = False


def log_axis(label: str, values: Sequence[Real], marks: Sequence[tuple[Real, str]]) -> ChartAxis:
    """A logarithmic axis a little wider than the values, with at most six of the marks that lie on it.

    Args:
        label: The words beside the axis.
        values: What the chart shows, all above 0.
        marks: Values and their labels, rising.
    """
    low, high = min(values) / 1.2, max(values) * 1.2
    inside = [number for number, (mark, _) in enumerate(marks) if low <= mark <= high]
    if len(inside) < 2:
        # Out to the next mark on both sides.
        below = [number for number, (mark, _) in enumerate(marks) if mark < low]
        above = [number for number, (mark, _) in enumerate(marks) if mark > high]
        inside = [*below[-1:], *inside, *above[:1]]
        low, high = (
            min(low, *(marks[number][0] for number in inside)),
            max(high, *(marks[number][0] for number in inside)),
        )
    chosen = [marks[number] for number in inside[:: -(-len(inside) // 6)]]
    return ChartAxis(label, low, high, tuple(mark for mark, _ in chosen), tuple(words for _, words in chosen), log=True)


def scatter_chart(
    name: str,
    spots: Sequence[Spot],
    x: ChartAxis,
    y: ChartAxis,
    *,
    title: str,
    key: Sequence[tuple[str, str]] = (),
    height: float = 330.0,
) -> str:
    """Draw choices over two axes, those without words pale, with a line through those that no other beats in both.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        spots: The choices. Their words stand beside them where there is room.
        x: The horizontal axis.
        y: The vertical axis.
        title: What the chart shows, in one sentence, for people who can't see it.
        key: Styles and their words, above the plot.
        height: Of the drawing without the key.
    """
    longest = max((len(words) for _, words in key), default=0)
    columns = max(1, int((WIDTH - 60.0) / (24.0 + longest * _CHARACTER_WIDTH)))
    top = 16.0 + _KEY_PITCH * -(-len(key) // columns)
    left = max(52.0, 28.0 + 7.0 * max(len(label) for label in y.tick_labels))
    frame = Frame(left, top, WIDTH - 22.0, top + height - 58.0, x, y)
    front = [frame.at(spot.x, spot.y) for spot in find_front(spots)]
    line = "L".join(f"{at_x:.1f} {at_y:.1f}" for at_x, at_y in front)
    parts = [draw_axes(frame), f'<path class="reference" d="M{line}"/>' if len(front) > 1 else ""]
    drawn: set[tuple[str, int, int]] = set()
    for spot in sorted(spots, key=lambda spot: (spot.label != "", spot.advised)):
        at_x, at_y = frame.at(spot.x, spot.y)
        # Of many in one place, one dot is enough.
        place = (spot.style, round(at_x / 2), round(at_y / 2))
        if place in drawn and not spot.label and not spot.advised:
            continue
        drawn.add(place)
        ring = f'<circle class="ring" cx="{at_x:.1f}" cy="{at_y:.1f}" r="8"/>' if spot.advised else ""
        faint = "" if spot.label else " faint"
        parts.append(
            f'<g class="series {escape(spot.style)}">'
            f'{ring}<circle class="dot{faint}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="4"/></g>'
        )
    parts += [_draw_labels(frame, spots), *_draw_styles(frame, key, columns)]
    return wrap_chart(name, title, top + height - 16.0, parts)


def find_front(spots: Sequence[Spot]) -> list[Spot]:
    """The choices that no other one beats in both, from the left."""
    front: list[Spot] = []
    for spot in sorted(spots, key=lambda spot: (spot.x, spot.y)):
        if not front or spot.y < front[-1].y:
            front.append(spot)
    return front


def _draw_labels(frame: Frame, spots: Sequence[Spot]) -> str:
    """The words of the advised choice, and of the others as far as they don't touch."""
    placed: list[tuple[float, float, float]] = []
    parts = []
    for spot in sorted((spot for spot in spots if spot.label), key=lambda spot: not spot.advised):
        at_x, at_y = frame.at(spot.x, spot.y)
        half = 4.5 * len(spot.label)
        place = (min(max(at_x, frame.left + half + 2), frame.right + 16 - half), max(at_y - 10.0, 11.0))
        if all(abs(place[1] - y) > _APART or abs(place[0] - x) > half + other for x, y, other in placed):
            placed.append((*place, half))
            parts.append(
                f'<g class="series {escape(spot.style)}"><text class="row-label" x="{place[0]:.1f}" '
                f'y="{place[1]:.1f}" text-anchor="middle">{escape(spot.label)}</text></g>'
            )
    return "".join(parts)


def _draw_styles(frame: Frame, key: Sequence[tuple[str, str]], columns: int) -> list[str]:
    pitch = (frame.right - frame.left) / columns
    return [
        f'<g class="series {escape(style)}"><circle class="dot" cx="{frame.left + pitch * (number % columns) + 5:.1f}" '
        f'cy="{8 + _KEY_PITCH * (number // columns):.1f}" r="4"/><text class="row-label" '
        f'x="{frame.left + pitch * (number % columns) + 16:.1f}" y="{12 + _KEY_PITCH * (number // columns):.1f}">'
        f"{escape(words)}</text></g>"
        for number, (style, words) in enumerate(key)
    ]


@dataclass(frozen=True)
class Swing:
    """One assumption: its words, the result at its low and at its high end, and the words for the two."""

    label: str
    low: Real
    high: Real
    words: str


def _fits(swing: Swing) -> bool:
    """Whether the words of a row stand beside its label, as a phone shows both."""
    return len(swing.label) * _CHARACTER_WIDTH + len(swing.words) * (_CHARACTER_WIDTH - 0.6) < WIDTH - 34.0


def tornado_chart(
    name: str, swings: Sequence[Swing], base: Real, axis: ChartAxis, *, title: str, rule: Real | None = None
) -> str:
    """Draw how far each assumption alone moves a result, the widest first.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        swings: From the top.
        base: The result as assumed.
        axis: The axis of the result.
        title: What the chart shows, in one sentence.
        rule: A result that is marked through all rows, such as nothing won or lost.
    """
    # A row is higher where its words need a line of their own.
    tops = [6.0]
    for swing in swings:
        tops.append(tops[-1] + (35.0 if _fits(swing) else 51.0))
    height = tops[-1] + 44.0
    frame = Frame(8.0, tops[0], WIDTH - 10.0, tops[-1], axis, unit_axis(""))
    parts = [draw_grid(frame, height)]
    middle = frame.at(base, 0)[0]
    for swing, row, y in zip(swings, tops, tops[1:], strict=False):
        parts.append('<g class="series model">')
        for style, end in (("less", swing.low), ("more", swing.high)):
            place = frame.at(end, 0)[0] if math.isfinite(end) else middle
            left, width = min(middle, place), max(abs(place - middle), 1.0)
            parts.append(
                f'<rect class="swing {style}" x="{left:.1f}" y="{y - 15:.1f}" width="{width:.1f}" height="10"/>'
            )
        parts.append(
            f'<text class="row-label" x="{frame.left:g}" y="{row + 16:.1f}">{escape(swing.label)}</text>'
            f'<text class="row-label value" x="{frame.right:g}" y="{y - 19:.1f}" text-anchor="end">'
            f"{escape(swing.words)}</text></g>"
        )
    for value, style in ((base, "reference"), (rule, "rule")):
        if value is not None and axis.low <= value <= axis.high:
            place = frame.at(value, 0)[0]
            parts.append(f'<path class="{style}" d="M{place:.1f} {frame.top:.1f}V{frame.bottom:.1f}"/>')
    return wrap_chart(name, title, height, parts)
