import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from ebox.drawing.logos import LETTER_COLOURS, information_heights, logo_svg
from ebox.errors import InputError

SVG = "{http://www.w3.org/2000/svg}"


def _letters(svg: str) -> list[tuple[str, float, float, float]]:
    """Base, left edge, foot and height (downwards negative in the drawing) of every letter."""
    found = re.findall(
        r'href="#[\w-]+-([ACGT])" transform="translate\(([\d.]+) ([\d.e+-]+)\) scale\([\d.]+ (-[\d.e-]+)', svg
    )
    return [(base, float(x), float(foot), -float(height)) for base, x, foot, height in found]


def test_a_certain_column_holds_two_bits_and_a_uniform_one_none() -> None:
    heights = information_heights(np.array([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]]))
    np.testing.assert_allclose(heights, [[2, 0, 0, 0], [0, 0, 0, 0], [0.5, 0.5, 0, 0]], atol=1e-12)


def test_a_matrix_of_counts_is_refused() -> None:
    with pytest.raises(InputError, match="not a distribution"):
        information_heights(np.array([[8.0, 0.0, 1.0, 1.0]]))


def test_a_logo_is_well_formed_and_names_itself() -> None:
    root = ElementTree.fromstring(logo_svg(np.eye(4), title="Filter 3"))
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == "Filter 3"
    assert root.get("aria-labelledby") == title.get("id")
    assert root.get("role") == "img"
    assert {path.get("fill") for path in root.iter(f"{SVG}path")} >= set(LETTER_COLOURS.values())


def test_a_hostile_title_stays_text() -> None:
    svg = logo_svg(np.eye(4), title='</title><script>alert(1)</script>"')
    assert "<script" not in svg
    ElementTree.fromstring(svg)


def test_glyphs_stand_once_and_only_those_used() -> None:
    svg = logo_svg(np.tile([[0.0, 1.0, 0.0, 0.5]], (50, 1)), title="x")
    assert svg.count("<use") == 100
    assert re.findall(r'<path id="[\w-]+-([ACGT])"', svg) == ["C", "T"]


def test_two_logos_share_no_id() -> None:
    first, second = (logo_svg(np.eye(4) * scale, title="x") for scale in (1.0, 2.0))
    ids = [set(re.findall(r'id="([\w-]+)"', svg)) for svg in (first, second)]
    assert not ids[0] & ids[1]
    assert logo_svg(np.eye(4), title="x") == first


def test_the_tallest_letter_is_on_top_and_letters_touch() -> None:
    letters = _letters(logo_svg(np.array([[0.2, 0.9, 0.0, 0.4]]), title="x", axes=False))
    assert [base for base, *_ in letters] == ["A", "T", "C"]
    for (_, _, foot, height), (_, _, above, _) in pairwise(letters):
        assert above == pytest.approx(foot - height, abs=0.02)


def test_negative_contributions_hang_below_the_axis() -> None:
    letters = _letters(logo_svg(np.array([[1.0, 0.0, 0.0, -1.0]]), title="x", axes=False))
    (up, _, zero, height), (down, _, foot, depth) = sorted(letters)
    assert (up, down) == ("A", "T")
    assert foot - depth == pytest.approx(zero, abs=0.02)
    assert height == pytest.approx(depth)


def test_heights_are_in_proportion_to_the_limit() -> None:
    (tall,) = _letters(logo_svg(np.array([[2.0, 0.0, 0.0, 0.0]]), title="x", axes=False))
    (half,) = _letters(logo_svg(np.array([[2.0, 0.0, 0.0, 0.0]]), title="x", axes=False, limit=4.0))
    assert tall[3] == pytest.approx(2 * half[3], rel=1e-3)


@pytest.mark.parametrize("heights", [np.empty((0, 4)), np.array([[np.nan, 0, 0, 0]])])
def test_nothing_to_draw_is_an_error(heights: np.ndarray) -> None:
    with pytest.raises(InputError):
        logo_svg(heights, title="x")


def test_an_id_that_could_break_out_is_refused() -> None:
    with pytest.raises(InputError, match="can't begin an id"):
        logo_svg(np.eye(4), title="x", id_prefix='a" onload="')


def test_a_logo_of_zeros_is_drawn_empty() -> None:
    assert _letters(logo_svg(np.zeros((5, 4)), title="x")) == []
