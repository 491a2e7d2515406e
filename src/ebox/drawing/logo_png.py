"""Logos as PNG, for slides and papers that take no SVG: the same letters, drawn through Matplotlib."""

from __future__ import annotations

import importlib.util
import os
import re
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ebox.drawing.logos import GLYPHS, LETTER_COLOURS, measure_stacks, stack_letters
from ebox.errors import InputError, install_command
from ebox.sequences.codes import BASES
from ebox.storage.publishing import publish_file

if TYPE_CHECKING:
    from matplotlib.path import Path as Outline

DOTS_PER_INCH = 200
_TOKEN = re.compile(r"[MLHVCZ]|-?\d*\.?\d+")
_MAX_INCHES = 40.0


def check_png() -> None:
    """Raise InputError unless Matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("drawing PNG logos needs matplotlib", remedy=install_command("explain"))


def write_logo_png(
    path: str | os.PathLike[str],
    heights: Float[np.ndarray, "width 4"],
    *,
    title: str,
    unit: str = "bits",
    first_position: int = 1,
) -> None:
    """Publish a logo as PNG: letters stacked by height, smallest next to the axis, negative ones below it.

    Args:
        path: The file to write.
        heights: One row a position, columns A, C, G, T.
        title: Written above.
        unit: Of the height.
        first_position: The number of the first position.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch
    from matplotlib.transforms import Affine2D

    width = min(max(3.0, 0.28 * len(heights)), _MAX_INCHES)
    figure = Figure(figsize=(width, 2.0), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    outlines = {base: _read_outline(GLYPHS[base]) for base in BASES}
    for position, base, foot, tall in stack_letters(heights):
        place = Affine2D().scale(0.95, tall).translate(first_position + position - 0.475, foot)
        letter = outlines[BASES[base]].transformed(place)
        axes.add_patch(PathPatch(letter, facecolor=LETTER_COLOURS[BASES[base]], linewidth=0))
    up, down = measure_stacks(heights)
    room = max(up - down, 1e-9) * 0.05
    axes.set_ylim(down - room if down < 0 else 0.0, up + room)
    axes.set_xlim(first_position - 0.5, first_position + len(heights) - 0.5)
    axes.axhline(0.0, color="#525b66", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.set_ylabel(unit, fontsize=8)
    # A record's name may hold signs of mathtext.
    axes.set_title(title, fontsize=8, loc="left", parse_math=False)
    with publish_file(path) as temporary:
        canvas.print_png(os.fspath(temporary), metadata={"Software": None}, pil_kwargs=None)


def _read_outline(text: str) -> Outline:
    """Turn an SVG path of the absolute commands M, L, H, V, C and Z into Matplotlib's form."""
    from matplotlib.path import Path as Outline

    tokens = _TOKEN.findall(text)
    points: list[tuple[float, float]] = []
    codes: list[int] = []
    start, here, command, index = (0.0, 0.0), (0.0, 0.0), "M", 0
    while index < len(tokens):
        if tokens[index].isalpha():
            command = tokens[index]
            index += 1
            if command == "Z":
                points.append(start)
                codes.append(int(Outline.CLOSEPOLY))
                continue
        count = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6}[command]
        numbers = [float(token) for token in tokens[index : index + count]]
        index += count
        if command == "C":
            points += [(numbers[0], numbers[1]), (numbers[2], numbers[3]), (numbers[4], numbers[5])]
            codes += [int(Outline.CURVE4)] * 3
        else:
            x, y = {"H": (numbers[0], here[1]), "V": (here[0], numbers[0])}.get(command, (numbers[0], numbers[-1]))
            points.append((x, y))
            codes.append(int(Outline.MOVETO if command == "M" else Outline.LINETO))
            start = (x, y) if command == "M" else start
        here = points[-1]
    return Outline(points, codes)
