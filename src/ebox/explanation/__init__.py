"""What a network has learned: contributions, motifs, grammar, and how reliable they are.

Owns explanation.json and filters.json. docs/explanation.md specifies what is computed. The functions exported here work
on NumPy arrays and need no device.
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
