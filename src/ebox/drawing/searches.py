"""Charts of a search: values in the order of trials, shares of settings, and trials as lines across their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from ebox.drawing.charts import WIDTH, ChartAxis, Frame, draw_axes, wrap_chart
from ebox.drawing.numbers import Real

_PITCH, _KEY = 62.0, 18.0


@dataclass(frozen=True)
class Dot:
    """One trial: its place, and the class of its style."""

    x: Real
    y: Real
    style: str


def history_chart(
    name: str,
    dots: Sequence[Dot],
    best: Sequence[tuple[Real, Real]],
    x: ChartAxis,
    y: ChartAxis,
    *,
    title: str,
    key: Sequence[tuple[str, str]],
) -> str:
    """Draw values in the order of trials, and the best until each as a stair.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        dots: The trials; those beyond the axes stand on their edge.
        best: Where a trial became the best, and its value, from the left.
        x: The axis of numbers.
        y: The axis of values.
        title: What the chart shows, in one sentence.
        key: Styles and their words, above the plot.
    """
    top = 14.0 + _KEY * len(key)
    left = max(52.0, 28.0 + 7.0 * max(len(label) for label in y.tick_labels))
    frame = Frame(left, top, WIDTH - 14.0, top + 250.0, x, y)
    parts = [draw_axes(frame)]
    parts += [_draw_dot(*frame.at(dot.x, dot.y), dot.style, 3.4) for dot in dots]
    if best:
        path = "M{:.1f} {:.1f}".format(*frame.at(*best[0]))
        path += "".join(f"H{frame.at(x, y)[0]:.1f}V{frame.at(x, y)[1]:.1f}" for x, y in best[1:])
        parts.append(f'<g class="series model"><path class="line" d="{path}H{frame.right:.1f}"/></g>')
    for number, (style, words) in enumerate(key):
        at = 12.0 + _KEY * number
        parts.append(_draw_dot(frame.left + 5.0, at - 4.0, style, 4.0))
        parts.append(
            f'<g class="series {escape(style)}"><text class="row-label" x="{frame.left + 16.0:.1f}" y="{at:.1f}">'
            f"{escape(words)}</text></g>"
        )
    return wrap_chart(name, title, frame.bottom + 42.0, parts)


def share_chart(name: str, shares: Sequence[tuple[str, Real, str]], *, title: str) -> str:
    """Draw shares as bars, one below the other.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        shares: From the top: label, share from 0 to 1, and its words.
        title: What the chart shows, in one sentence.
    """
    longest = max((share for _, share, _ in shares), default=1.0)
    parts = []
    for number, (label, share, words) in enumerate(shares):
        y = 16.0 + 38.0 * number
        width = (WIDTH - 16.0) * share / max(longest, 1e-12)
        parts.append(
            f'<g class="series model"><text class="row-label" x="8" y="{y:.1f}">{escape(label)}</text>'
            f'<text class="row-label value" x="{WIDTH - 8.0:g}" y="{y:.1f}" text-anchor="end">{escape(words)}</text>'
            f'<path class="track" d="M8 {y + 12.0:.1f}H{WIDTH - 8.0:g}"/>'
            f'<rect class="area" x="8" y="{y + 7.0:.1f}" width="{width:.1f}" height="10"/></g>'
        )
    return wrap_chart(name, title, 14.0 + 38.0 * len(shares), parts)


@dataclass(frozen=True)
class Coordinate:
    """One setting: its label, the words of its low and its high end, and the words of the best trial's value."""

    label: str
    low: str
    high: str
    best: str


def coordinates_chart(
    name: str, coordinates: Sequence[Coordinate], lines: Sequence[tuple[str, Sequence[Real]]], *, title: str
) -> str:
    """Draw trials as lines down a stack of level axes, one for each setting.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        coordinates: From the top.
        lines: Of each trial its style and its places, 0 to 1, on the axes; the last is drawn on top, and wide.
        title: What the chart shows, in one sentence.
    """
    left, right, top = 12.0, WIDTH - 12.0, 30.0
    heights = [top + _PITCH * number for number in range(len(coordinates))]
    parts = []
    for number, (style, places) in enumerate(lines):
        points = [(left + (right - left) * place, height) for place, height in zip(places, heights, strict=True)]
        path = f"M{points[0][0]:.1f} {points[0][1]:.1f}" + "".join(
            f"C{x0:.1f} {y0 + _PITCH / 2:.1f} {x1:.1f} {y1 - _PITCH / 2:.1f} {x1:.1f} {y1:.1f}"
            for (x0, y0), (x1, y1) in pairwise(points)
        )
        is_best = number == len(lines) - 1
        look = "stroke-width:3.4" if is_best else "opacity:.55;stroke-width:1.3"
        parts.append(f'<g class="series {escape(style)}"><path class="line" style="{look}" d="{path}"/></g>')
    for coordinate, y in zip(coordinates, heights, strict=True):
        parts.append(
            f'<g class="axes"><path class="frame" d="M{left:g} {y:.1f}H{right:g}"/>'
            f'<text class="end" x="{left:g}" y="{y + 13.0:.1f}">{escape(coordinate.low)}</text>'
            f'<text class="end" x="{right:g}" y="{y + 13.0:.1f}" text-anchor="end">{escape(coordinate.high)}</text></g>'
            f'<g class="series model"><text class="row-label" x="{left:g}" y="{y - 6.0:.1f}">'
            f"{escape(coordinate.label)}</text>"
            f'<text class="row-label value" x="{right:g}" y="{y - 6.0:.1f}" text-anchor="end">'
            f"{escape(coordinate.best)}</text></g>"
        )
    return wrap_chart(name, title, heights[-1] + 22.0, parts)


def _draw_dot(x: float, y: float, style: str, radius: float) -> str:
    return f'<g class="series {escape(style)}"><circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/></g>'
