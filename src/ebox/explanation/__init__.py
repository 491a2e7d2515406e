"""What a network has learned: the filters of its first layer as motifs, and sequence logos.

Owns the drawing of sequence logos (SVG text, no plotting library) and filters.json. Works on NumPy arrays,
so it needs neither a device nor the model's code.
"""

from ebox.drawing.logos import LETTER_COLOURS, information_heights, logo_svg
from ebox.explanation.filters import (
    FilterMotif,
    Resemblance,
    filter_motifs,
    filters_to_json,
    find_resemblance,
    read_filters,
)

__all__ = [
    "LETTER_COLOURS",
    "FilterMotif",
    "Resemblance",
    "filter_motifs",
    "filters_to_json",
    "find_resemblance",
    "information_heights",
    "logo_svg",
    "read_filters",
]
