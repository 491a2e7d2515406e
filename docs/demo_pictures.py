"""The pictures of the README, from a demo: `ebox demo --out runs/demo && python docs/demo_pictures.py runs/demo`.

docs/demo_roc.svg has the curves of the report; docs/demo_motif.svg the sharpest of the motifs that `ebox demo` shows.
"""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from pathlib import Path

from ebox.drawing.logos import information_heights, logo_svg
from ebox.explanation.filters import read_filters
from ebox.verbs.demo import choose_finds


def draw_roc(page: str) -> str:
    """The first ROC curves of a report, with the style of the page."""
    style = (files("ebox.reporting") / "templates" / "report.css").read_text(encoding="utf-8")
    rules = "\n".join(re.findall(r"^(?::root|\.chart|\.series)[^{}]*\{[^}]*\}", style, re.MULTILINE))
    found = re.search(r'<svg[^>]*aria-labelledby="roc-0.*?</svg>', page, re.DOTALL)
    assert found is not None, "the report has no ROC curves"
    return _set_on_white(found[0], f"<style>\n{rules.replace('light dark', 'light')}\n</style>")


def draw_motif(folder: Path) -> str:
    """The logo of the shown motif with the most information."""
    motif = max(choose_finds(read_filters(folder)), key=lambda each: each.information_bits)
    assert motif.resembles is not None
    title = f"Filter {motif.index}, like {motif.resembles.name}: {motif.consensus}"
    return _set_on_white(logo_svg(information_heights(motif.probabilities), title=title))


def _set_on_white(svg: str, style: str = "") -> str:
    """A picture that stands alone, 520 pixels wide."""
    box = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
    assert box is not None
    opening, rest = svg.split("</title>", 1)
    ground = f'<rect width="{box[1]}" height="{box[2]}" fill="#fff"/>'
    return opening.replace("<svg ", '<svg width="520" ', 1) + f"</title>{style}{ground}{rest}\n"


if __name__ == "__main__":
    run, docs = Path(sys.argv[1]), Path(__file__).parent
    (docs / "demo_roc.svg").write_text(draw_roc((run / "report.html").read_text(encoding="utf-8")), encoding="utf-8")
    (docs / "demo_motif.svg").write_text(draw_motif(run), encoding="utf-8")
