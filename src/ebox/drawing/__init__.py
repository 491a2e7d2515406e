"""Charts, sequence logos, and numbers as text.

Owns how things look: SVG text and PNG from plain values. Knows no run, no network and no language.
"""

from ebox.drawing.logos import LETTER_COLOURS, information_heights, logo_svg

__all__ = ["LETTER_COLOURS", "information_heights", "logo_svg"]
