"""Charts as SVG text with colours from the page: light, dark and print share one drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from operator import itemgetter

from ebox.drawing.numbers import MINUS, Real

WIDTH = 440.0
# Room for a digit of the numbers along an axis, a little wider than the digit itself.
FIGURE_WIDTH = 7.0
IntervalRow = tuple[str, str, Real, Real, Real, str]
_LABEL_GAP = 15.0
_KEY_PITCH, _KEY_INDENT = 18.0, 28.0
_CHARACTER_WIDTH = 8.2  # of the label type as a phone shows it, 13.5 px and bold, in a wide face


@dataclass(frozen=True)
class ChartAxis:
    """One axis: its label, its range, the places and labels of its ticks; `log` makes the scale logarithmic."""

    label: str
    low: Real
    high: Real
    ticks: tuple[Real, ...]
    tick_labels: tuple[str, ...]
    log: bool = False

    def place(self, value: Real) -> float:
        """Where a value lies between the ends, 0 to 1; values outside are drawn at the nearer end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Line:
    """One series of points; `style` is its class in the style sheet; `low` and `high` are the edges of a band."""

    x: Sequence[Real]
    y: Sequence[Real]
    style: str
    label: str
    marks: bool = False
    low: Sequence[Real] = ()
    high: Sequence[Real] = ()


@dataclass(frozen=True)
class Frame:
    """The inner rectangle of a chart, in the units of its drawing."""

    left: float
    top: float
    right: float
    bottom: float
    x: ChartAxis
    y: ChartAxis

    def at(self, x: Real, y: Real) -> tuple[float, float]:
        """Where a point of the data is drawn."""
        return (
            self.left + (self.right - self.left) * self.x.place(x),
            self.bottom - (self.bottom - self.top) * self.y.place(y),
        )


def make_axis(label: str, low: Real, high: Real, *, num: int = 5, percent: bool = False) -> ChartAxis:
    """An axis of round ticks that starts and ends with a tick.

    Args:
        label: The words beside the axis.
        low: The smallest value to show.
        high: The greatest value to show.
        num: About how many ticks.
        percent: Label the ticks in percent.
    """
    if not math.isfinite(low) or not math.isfinite(high):
        low, high = 0.0, 1.0
    if high - low < 1e-9 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / num
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(number * step, 12) for number in range(first, last + 1))
    labels = tuple(f"{tick * 100:g} %" if percent else f"{tick:,g}".replace("-", MINUS) for tick in ticks)
    return ChartAxis(label, ticks[0], ticks[-1], ticks, labels)


def unit_axis(label: str) -> ChartAxis:
    """An axis from 0 to 1."""
    ticks = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    return ChartAxis(label, 0.0, 1.0, ticks, tuple(f"{tick:g}" for tick in ticks))


def line_chart(
    name: str,
    lines: Sequence[Line],
    x: ChartAxis,
    y: ChartAxis,
    *,
    title: str,
    height: float = 330.0,
    key: bool = False,
    diagonal: bool = False,
    bars: tuple[Sequence[Real], Sequence[Real]] = ((), ()),
) -> str:
    """Draw series over two axes.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        lines: Drawn in reverse, so that the first lies on top.
        x: The horizontal axis.
        y: The vertical axis.
        title: What the chart shows, in one sentence, for people who can't see it.
        height: Of the drawing; its width is 440.
        key: Put the labels above the plot, where no line can reach them, instead of at the right end of each line; in
            two columns where they are short enough, else in one, which makes the chart higher.
        diagonal: Draw the line where x equals y.
        bars: A histogram at the foot of the plot, as high as a fifth of it: the edges of its bins, and their counts.
    """
    longest = max((len(line.label) for line in lines), default=0)
    right = WIDTH - (12.0 if key else 14.0 + longest * _CHARACTER_WIDTH)
    columns = 2 if _KEY_INDENT + longest * _CHARACTER_WIDTH < (right - 52.0) / 2 else 1
    top = 14.0 + (_KEY_PITCH * -(-len(lines) // columns) if key else 0.0)
    height += top - 14.0 - _KEY_PITCH * -(-len(lines) // 2) if key else 0.0
    # Room for the label of the axis and its longest number.
    left = max(52.0, 28.0 + FIGURE_WIDTH * max(len(label) for label in y.tick_labels))
    frame = Frame(left, top, right, height - 42.0, x, y)
    parts = [draw_axes(frame), _draw_bars(frame, *bars)]
    if diagonal:
        (x0, y0), (x1, y1) = frame.at(0, 0), frame.at(1, 1)
        parts.append(f'<path class="reference" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>')
    parts += [_draw_line(frame, line) for line in reversed(lines)]
    parts.append(_draw_key(frame, lines, columns) if key else _label_ends(frame, lines))
    return wrap_chart(name, title, height, parts)


def _draw_bars(frame: Frame, edges: Sequence[Real], counts: Sequence[Real]) -> str:
    """A histogram at the foot of a plot, without a scale of its own."""
    if not counts or max(counts) <= 0:
        return ""
    path, room = "", (frame.bottom - frame.top) / 5.0
    for (start, stop), count in zip(pairwise(edges), counts, strict=True):
        left, right = (frame.at(edge, frame.y.low)[0] for edge in (start, stop))
        path += f"M{left:.1f} {frame.bottom:.1f}v{-room * count / max(counts):.1f}H{right:.1f}V{frame.bottom:.1f}Z"
    return f'<g class="series other"><path class="interval-band" d="{path}"/></g>'


def interval_chart(name: str, rows: Sequence[IntervalRow], axis: ChartAxis, *, title: str) -> str:
    """Draw one row for each value, a dot with its interval, over one axis.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        rows: From the top: label, style, value, low and high end, and the words for the three.
        axis: The axis of the values.
        title: What the chart shows, in one sentence.
    """
    pitch, top = 46.0, 10.0
    height = top + pitch * len(rows) + 48.0
    frame = Frame(8.0, top, WIDTH - 10.0, top + pitch * len(rows), axis, unit_axis(""))
    parts = [draw_grid(frame, height)]
    for number, (label, style, value, low, high, words) in enumerate(rows):
        y = top + pitch * number + 33.0
        start, centre, stop = (frame.at(number, 0)[0] for number in (low, value, high))
        parts.append(
            f'<g class="series {escape(style)}">'
            f'<text class="row-label" x="{frame.left:g}" y="{y - 13:.1f}">{escape(label)}</text>'
            f'<text class="row-label value" x="{frame.right:g}" y="{y - 13:.1f}" text-anchor="end">'
            f'{escape(words)}</text><path class="track" d="M{frame.left:g} {y:.1f}H{frame.right:g}"/>'
            f'<rect class="interval-band" x="{start:.1f}" y="{y - 7:.1f}" width="{stop - start:.1f}" height="14"/>'
            f'<path class="interval" d="M{start:.1f} {y - 7:.1f}v14M{stop:.1f} {y - 7:.1f}v14"/>'
            f'<circle class="dot" cx="{centre:.1f}" cy="{y:.1f}" r="4"/></g>'
        )
    return wrap_chart(name, title, height, parts)


def strip_chart(
    name: str,
    strips: Sequence[tuple[str, str, Sequence[Real]]],
    edges: Sequence[Real],
    x: ChartAxis,
    *,
    title: str,
    rule: tuple[Real, str] | None = None,
) -> str:
    """Draw histograms in strips, one below the other, on one scale and over one axis.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        strips: From the top: label, style, and the share of the strip's own examples in each bin.
        edges: Of the bins; one more than shares.
        x: The axis of the edges.
        title: What the chart shows, in one sentence.
        rule: A value that is marked through all strips, and its words.
    """
    pitch, top = 82.0, 24.0
    height = top + pitch * len(strips) + 40.0
    frame = Frame(14.0, top, WIDTH - 14.0, top + pitch * len(strips), x, unit_axis(""))
    highest = max((share for _, _, shares in strips for share in shares), default=0.0)
    highest = highest if highest > 0 else 1.0
    # Labels are on the side without the rule.
    is_rule_left = rule is not None and x.place(rule[0]) < 0.5
    place, anchor = (frame.right, "end") if is_rule_left else (frame.left, "start")
    parts = [_draw_bottom_axis(frame), "" if rule is None else _draw_rule(frame, *rule)]
    for number, (label, style, shares) in enumerate(strips):
        base = top + pitch * (number + 1)
        path = [f"M{frame.at(edges[0], 0)[0]:.1f} {base:.1f}"]
        for (start, stop), share in zip(pairwise(edges), shares, strict=True):
            y = base - (pitch - 26.0) * share / highest
            path.append(f"L{frame.at(start, 0)[0]:.1f} {y:.1f}H{frame.at(stop, 0)[0]:.1f}")
        path.append(f"V{base:.1f}Z")
        parts.append(
            f'<g class="series {escape(style)}"><path class="area" d="{"".join(path)}"/>'
            f'<path class="baseline" d="M{frame.left:g} {base:.1f}H{frame.right:g}"/>'
            f'<text class="row-label" x="{place:g}" y="{base - pitch + 21:.1f}" text-anchor="{anchor}">'
            f"{escape(label)}</text></g>"
        )
    return wrap_chart(name, title, height, parts)


def _draw_rule(frame: Frame, value: Real, words: str) -> str:
    """A value marked from top to bottom, its words above."""
    place, _ = frame.at(value, 0)
    share = frame.x.place(value)
    anchor = "start" if share < 0.2 else "end" if share > 0.8 else "middle"
    return (
        f'<path class="rule" d="M{place:.1f} {frame.top - 6:.1f}V{frame.bottom:.1f}"/>'
        f'<text class="rule-label" x="{place:.1f}" y="{frame.top - 11:.1f}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def wrap_chart(name: str, title: str, height: float, parts: Sequence[str]) -> str:
    """The parts as one drawing of the usual width, named for people who can't see it.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        title: What it shows.
        height: Of the drawing, in its own units.
        parts: The SVG of the drawing.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {WIDTH:g} {height:g}" role="img" '
        f'aria-labelledby="{escape(name)}-title"><title id="{escape(name)}-title">{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def draw_axes(frame: Frame) -> str:
    """Both axes around a frame, with lines across it at the vertical ticks."""
    parts = [_draw_bottom_axis(frame), '<g class="axes">']
    for tick, label in zip(frame.y.ticks, frame.y.tick_labels, strict=True):
        _, y = frame.at(frame.x.low, tick)
        parts.append(
            f'<path class="grid" d="M{frame.left:g} {y:.1f}H{frame.right:.1f}"/>'
            f'<text x="{frame.left - 7:g}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>'
        )
    middle = (frame.top + frame.bottom) / 2
    parts.append(
        f'<text class="axis-label" transform="translate(12 {middle:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(frame.y.label)}</text></g>"
    )
    return "".join(parts)


def draw_grid(frame: Frame, height: float) -> str:
    """Lines down a frame at the horizontal ticks, their labels, and that of the axis at the foot of the drawing."""
    parts = ['<g class="axes">']
    for tick, label in zip(frame.x.ticks, frame.x.tick_labels, strict=True):
        place = frame.at(tick, frame.y.low)[0]
        anchor = "start" if tick == frame.x.low else "end" if tick == frame.x.high else "middle"
        parts.append(
            f'<path class="grid" d="M{place:.1f} {frame.top:.1f}V{frame.bottom + 4:.1f}"/>'
            f'<text x="{place:.1f}" y="{frame.bottom + 18:.1f}" text-anchor="{anchor}">{escape(label)}</text>'
        )
    parts.append(
        f'<text class="axis-label" x="{WIDTH / 2:g}" y="{height - 5:.1f}" text-anchor="middle">'
        f"{escape(frame.x.label)}</text></g>"
    )
    return "".join(parts)


def _draw_bottom_axis(frame: Frame) -> str:
    parts = [f'<g class="axes"><path class="frame" d="M{frame.left:g} {frame.bottom:.1f}H{frame.right:.1f}"/>']
    for tick, label in zip(frame.x.ticks, frame.x.tick_labels, strict=True):
        x, _ = frame.at(tick, frame.y.low)
        parts.append(
            f'<path class="frame" d="M{x:.1f} {frame.bottom:.1f}v4"/>'
            f'<text x="{x:.1f}" y="{frame.bottom + 17:.1f}" text-anchor="middle">{escape(label)}</text>'
        )
    middle = (frame.left + frame.right) / 2
    parts.append(
        f'<text class="axis-label" x="{middle:.1f}" y="{frame.bottom + 36:.1f}" text-anchor="middle">'
        f"{escape(frame.x.label)}</text></g>"
    )
    return "".join(parts)


def _draw_line(frame: Frame, line: Line) -> str:
    places = [frame.at(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if not places:
        return ""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>' for x, y in places)
    alone = len(places) == 1 or line.marks
    band = _draw_band(frame, line)
    return f'<g class="series {escape(line.style)}">{band}<path class="line" d="M{path}"/>{dots if alone else ""}</g>'


def _draw_band(frame: Frame, line: Line) -> str:
    if not line.low:
        return ""
    edge = [frame.at(x, y) for x, y in zip(line.x, line.low, strict=True)]
    edge += [frame.at(x, y) for x, y in zip(line.x, line.high, strict=True)][::-1]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in edge)
    return f'<path class="interval-band" d="M{path}Z"/>'


def _draw_key(frame: Frame, lines: Sequence[Line], columns: int) -> str:
    """Labels above the plot, in the order of the lines, each after a short piece of its line."""
    parts = []
    for number, line in enumerate(lines):
        x = frame.left + (frame.right - frame.left) / columns * (number % columns)
        y = 12.0 + _KEY_PITCH * (number // columns)
        parts.append(
            f'<g class="series {escape(line.style)}"><path class="line" d="M{x:.1f} {y - 4:.1f}h22"/>'
            f'<text class="row-label" x="{x + _KEY_INDENT:.1f}" y="{y:.1f}">{escape(line.label)}</text></g>'
        )
    return "".join(parts)


def _label_ends(frame: Frame, lines: Sequence[Line]) -> str:
    """Each line's label beside its last point, pushed apart where two would touch."""
    ends = [(frame.at(line.x[-1], line.y[-1])[1] + 4.0, line) for line in lines if len(line.x)]
    ends.sort(key=itemgetter(0))
    places: list[float] = []
    for wanted, _ in ends:
        places.append(max(wanted, places[-1] + _LABEL_GAP) if places else wanted)
    excess = max(0.0, places[-1] - frame.bottom) if places else 0.0
    return "".join(
        f'<g class="series {escape(line.style)}"><text class="row-label" x="{frame.right + 7:.1f}" '
        f'y="{place - excess:.1f}">{escape(line.label)}</text></g>'
        for place, (_, line) in zip(places, ends, strict=True)
    )
