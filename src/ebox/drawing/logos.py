"""Sequence logos as SVG text: four glyph outlines once, then one reference a letter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from html import escape

import numpy as np
from jaxtyping import Float

from ebox.errors import InputError
from ebox.sequences.codes import BASES, encode, one_hot

LETTER_COLOURS = {"A": "#109648", "C": "#255C99", "G": "#F7B32B", "T": "#D62839"}
MAX_INFORMATION_BITS = 2.0

# Outlines in a unit box, y upwards, drawn for this project: strokes about a fifth of the width.
GLYPHS = {
    "A": "M0 0L.37 1H.63L1 0H.76L.687 .22H.313L.24 0ZM.374 .4H.626L.5 .78Z",
    "C": "M1 .655C.96 .87 .785 1 .535 1C.21 1 0 .8 0 .5C0 .2 .21 0 .535 0C.785 0 .96 .13 1 .345L.765 .39"
    "C.735 .255 .655 .185 .54 .185C.355 .185 .245 .3 .245 .5C.245 .7 .355 .815 .54 .815C.655 .815 .735 "
    ".745 .765 .61Z",
    "G": "M.985 .67C.945 .875 .77 1 .525 1C.205 1 0 .8 0 .5C0 .2 .2 0 .51 0C.72 0 .88 .065 1 "
    ".19V.545H.53V.365H.77V.27"
    "C.705 .21 .625 .18 .535 .18C.35 .18 .24 .295 .24 .5C.24 .705 .35 .82 .53 .82C.65 .82 .725 .755 "
    ".752 .625Z",
    "T": "M0 1H1V.81H.615V0H.385V.81H0Z",
}
_CELL_WIDTH = 20.0
_PLOT_HEIGHT = 64.0
_LEFT_MARGIN = 36.0
_BOTTOM_MARGIN = 16.0
_TOP_MARGIN = 5.0
_MIN_LETTER_HEIGHT = 0.15  # in the units of the drawing: smaller letters cannot be seen


def contribution_heights(sequence: str, contributions: Float[np.ndarray, " length"]) -> Float[np.ndarray, "length 4"]:
    """Letter heights of a sequence: the height of each base is its contribution, below the axis where negative."""
    return one_hot(encode(sequence), np.float64) * np.asarray(contributions, np.float64)[:, None]


def information_heights(probabilities: Float[np.ndarray, "width 4"]) -> Float[np.ndarray, "width 4"]:
    """Letter heights in bits: each base's share of its column's information against a uniform background.

    Schneider and Stephens (1990), without the small-sample correction.

    Raises:
        InputError: a column is not a distribution.
    """
    if np.any(probabilities < 0) or not np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-3):
        raise InputError("a column of the matrix is not a distribution: its four probabilities don't sum to 1")
    logs = np.log2(np.where(probabilities > 0, probabilities, 1.0))
    information = MAX_INFORMATION_BITS + (probabilities * logs).sum(axis=1, keepdims=True)
    return np.maximum(information, 0.0) * probabilities


def logo_svg(
    heights: Float[np.ndarray, "width 4"],
    *,
    title: str,
    limit: float | None = None,
    unit: str = "bits",
    first_position: int = 1,
    axes: bool = True,
    id_prefix: str | None = None,
) -> str:
    """Draw a logo: letters stacked by height, smallest next to the axis; negative ones below it.

    Args:
        heights: One row a position, columns A, C, G, T; signed contributions are allowed.
        title: What a screen reader says and a pointer shows; escaped here.
        limit: Greatest height shown; none: 2 where no height is negative or above 2, else the highest stack.
        unit: Of the height, written beside the axis.
        first_position: The number of the first position.
        axes: Draw the axes with their numbers.
        id_prefix: Start of the ids in the drawing, unique on the page; none: made from the content.

    Returns:
        One `<svg>` element, complete by itself, that scales with its box.

    Raises:
        InputError: a height is not finite, or there is no position.
    """
    if heights.shape[0] == 0 or not np.all(np.isfinite(heights)):
        raise InputError("a logo needs at least one position, and only finite heights")
    top, bottom = _extent(heights, limit)
    prefix = _make_prefix(heights, title) if id_prefix is None else _check_prefix(id_prefix)
    left, below = (_LEFT_MARGIN, _BOTTOM_MARGIN) if axes else (0.0, 0.0)
    width = left + _CELL_WIDTH * heights.shape[0]
    height = _TOP_MARGIN + _PLOT_HEIGHT + below
    scale = _PLOT_HEIGHT / (top - bottom)
    zero = _TOP_MARGIN + top * scale
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="logo" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="{prefix}-title"><title id="{prefix}-title">{escape(title)}</title>',
        _define_glyphs(prefix, heights),
        *_draw_letters(heights, prefix, left, zero, scale),
        _draw_axes(heights.shape[0], top, bottom, left, zero, scale, unit, first_position) if axes else "",
        "</svg>",
    ]
    return "".join(parts)


def measure_stacks(heights: Float[np.ndarray, "width 4"]) -> tuple[float, float]:
    """The top of the highest stack and the bottom of the lowest one."""
    return float(np.maximum(heights, 0).sum(axis=1).max()), float(np.minimum(heights, 0).sum(axis=1).min())


def stack_letters(heights: Float[np.ndarray, "width 4"], least: float = 0.0) -> Iterator[tuple[int, int, float, float]]:
    """Position, base, lower end and height of each letter of at least `least`, from the axis outwards."""
    for position, row in enumerate(heights.astype(np.float64)):
        up = down = 0.0
        for base in np.argsort(np.abs(row), kind="stable").tolist():
            tall = abs(float(row[base]))
            if tall == 0.0 or tall < least:
                continue
            if row[base] > 0:
                yield position, base, up, tall
                up += tall
            else:
                down -= tall
                yield position, base, down, tall


def _extent(heights: np.ndarray, limit: float | None) -> tuple[float, float]:
    up, down = measure_stacks(heights)
    if limit is not None:
        return limit, -limit if down < 0 else 0.0
    if down == 0 and up <= MAX_INFORMATION_BITS:
        return MAX_INFORMATION_BITS, 0.0
    room = max(up - down, 1e-9) * 0.04
    return up + room, down - room if down < 0 else 0.0


def _make_prefix(heights: np.ndarray, title: str) -> str:
    content = np.ascontiguousarray(heights, dtype="<f8").tobytes() + title.encode()
    return "logo-" + hashlib.sha256(content).hexdigest()[:10]


def _check_prefix(prefix: str) -> str:
    if not re.fullmatch(r"[A-Za-z][\w-]*", prefix, flags=re.ASCII):
        raise InputError(f"{prefix!r} can't begin an id", remedy="letters, digits, - and _ only, a letter first")
    return prefix


def _define_glyphs(prefix: str, heights: np.ndarray) -> str:
    used = [base for number, base in enumerate(BASES) if np.any(heights[:, number] != 0)]
    paths = "".join(
        f'<path id="{prefix}-{base}" class="base-{base}" fill="{LETTER_COLOURS[base]}" '
        f'fill-rule="evenodd" d="{GLYPHS[base]}"/>'
        for base in used
    )
    return f"<defs>{paths}</defs>"


def _draw_letters(heights: np.ndarray, prefix: str, left: float, zero: float, scale: float) -> list[str]:
    """One reference a letter; the glyph's unit box is stretched to the letter's height."""
    return [
        f'<use href="#{prefix}-{BASES[base]}" transform="translate({left + _CELL_WIDTH * position + 0.5:.4g} '
        f'{zero - foot:.5g}) scale({_CELL_WIDTH - 1:g} {-tall:.4g})"/>'
        for position, base, foot, tall in stack_letters(heights * scale, _MIN_LETTER_HEIGHT)
    ]


def _draw_axes(
    width: int, top: float, bottom: float, left: float, zero: float, scale: float, unit: str, first: int
) -> str:
    right = left + _CELL_WIDTH * width
    ticks = [0.0, 1.0, 2.0] if (top, bottom) == (2.0, 0.0) else [0.0, *(v for v in (top, bottom) if v != 0)]
    style = 'fill="currentColor" font-family="system-ui, sans-serif" font-size="9"'
    parts = [
        f'<g class="logo-axes" {style}><path d="M{left - 2:g} {zero:.5g}H{right:g}M{left - 2:g} '
        f'{zero - top * scale:.5g}V{zero - bottom * scale:.5g}" fill="none" stroke="currentColor" '
        'stroke-opacity=".5" stroke-width=".8"/>'
    ]
    parts += [
        f'<text x="{left - 5:g}" y="{zero - tick * scale + 3:.5g}" text-anchor="end">{tick:.2g}</text>'
        for tick in ticks
    ]
    middle = zero - (top + bottom) / 2 * scale
    parts.append(f'<text transform="translate(9 {middle:.5g}) rotate(-90)" text-anchor="middle">{escape(unit)}</text>')
    for position in range(width):
        number = first + position
        if position == 0 or number % 5 == 0:
            x = left + _CELL_WIDTH * (position + 0.5)
            y = zero - bottom * scale + 11
            parts.append(f'<text x="{x:g}" y="{y:.5g}" text-anchor="middle">{number}</text>')
    return "".join(parts) + "</g>"
