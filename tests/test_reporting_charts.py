import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from ebox.drawing import numbers
from ebox.drawing.charts import Line, interval_chart, line_chart, make_axis, strip_chart, unit_axis
from ebox.reporting.languages import english
from ebox.reporting.sections.again import continue_command, format_command
from ebox.reporting.sections.growth import draw_growth


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.861, 0.9573), (0, 1984), (-3.2, 7), (5, 5), (0, 1e-7), (math.nan, 1.0), (0, 3e7)],
)
def test_ticks_are_round_and_hold_the_range(low: float, high: float) -> None:
    axis = make_axis("x", low, high)
    assert 3 <= len(axis.ticks) <= 9
    assert len(set(axis.tick_labels)) == len(axis.ticks)
    assert (axis.low, axis.high) == (axis.ticks[0], axis.ticks[-1])
    if math.isfinite(low):
        assert axis.low <= low
        assert axis.high >= high


def test_a_value_is_placed_in_proportion_and_never_outside() -> None:
    axis = make_axis("x", 0.0, 10.0)
    assert [axis.place(value) for value in (-5.0, 0.0, 2.5, 10.0, 99.0)] == [0.0, 0.0, 0.25, 1.0, 1.0]


def test_charts_are_well_formed_whatever_the_labels() -> None:
    hostile = "</text><script>"
    line = Line([0.0, 1.0], [0.2, 0.9], "model", hostile)
    charts = [
        line_chart("a", [line], unit_axis(hostile), unit_axis("y"), title=hostile),
        line_chart("b", [line], unit_axis("x"), unit_axis("y"), title="t", key=True),
        interval_chart("c", [(hostile, "model", 0.9, 0.8, 0.95, hostile)], unit_axis(hostile), title=hostile),
        strip_chart(
            "d",
            [(hostile, "positive", [0.5, 0.5])],
            [0, 0.5, 1],
            unit_axis("x"),
            title=hostile,
            rule=(0.4, hostile),
        ),
    ]
    for chart in charts:
        ElementTree.fromstring(chart)
        assert "<script" not in chart


def test_points_that_are_no_numbers_are_left_out() -> None:
    line = Line([0.0, 0.5, 1.0], [0.1, math.nan, 0.3], "model", "loss")
    assert "nan" not in line_chart("a", [line], unit_axis("x"), unit_axis("y"), title="t")


def test_labels_at_the_ends_do_not_touch() -> None:
    lines = [Line([0.0, 1.0], [0.0, 0.01 * number], f"s{number}", f"label {number}") for number in range(4)]
    root = ElementTree.fromstring(line_chart("a", lines, unit_axis("x"), unit_axis("y"), title="t"))
    found = [text for text in root.iter() if text.get("class") == "row-label"]
    places = sorted(float(text.get("y", "nan")) for text in found)
    assert all(below - above >= 14.9 for above, below in pairwise(places))


def test_words_for_numbers() -> None:
    assert numbers.format_number(None) == numbers.format_number(math.nan) == "\N{EN DASH}"
    assert numbers.format_number(-0.25, 2) == "\N{MINUS SIGN}0.25"
    assert numbers.format_seconds(7384) == "2 h 03 min"
    assert numbers.format_p(0.000998) == "p < 0.001"
    assert numbers.format_p(0.034) == "p = 0.034"
    assert english.join_words(["a", "b", "c"]) == "a, b and c"


def test_a_command_is_read_back_by_a_shell_to_the_same_words() -> None:
    import shlex

    words = [
        "/x/bin/ebox",
        "run",
        "--peaks",
        "my peaks; rm -rf.bed",
        "--genome",
        "g.fa",
        "--out",
        "run",
        "--set",
        "a.b=[1, 2]",
    ]
    line = format_command(words)
    assert line is not None
    assert shlex.split(line) == ["ebox", *words[1:]]
    shown = continue_command(line)
    assert shlex.split(shown.replace("\\\n", "")) == ["ebox", *words[1:]]
    assert shown.count("\n") == 4


def test_a_scaling_curve_is_drawn_on_doubling_axes() -> None:
    curve = [
        {
            "workers": workers,
            "seconds": 1.0 / speedup,
            "low": 0.9 / speedup,
            "high": 1.2 / speedup,
            "simulated": {"seconds": 1.01 / speedup},
            "speedup": speedup,
            "efficiency": speedup / workers,
        }
        for workers, speedup in ((1, 1.0), (2, 1.8), (4, 3.0), (256, 0.4))
    ]
    root = ElementTree.fromstring(draw_growth("growth", curve, english))
    words = [text.text for text in root.iter() if text.tag.endswith("text")]
    assert {"Predicted", "Simulated", "Ideal", "Workers", "Speed-up", "1", "4", "16", "64", "256"} <= set(words)
    title = next(text.text for text in root.iter() if text.tag.endswith("title"))
    assert title is not None
    assert "256 workers, where it is 0.4" in title
    ideal = next(group for group in root.iter() if group.get("class") == "series other")
    path = next(part.get("d", "") for part in ideal if part.get("class") == "line")
    places = [tuple(map(float, place.split())) for place in path.removeprefix("M").split("L")]
    steps = [(x1 - x0, y0 - y1) for (x0, y0), (x1, y1) in pairwise(places)]
    # Each doubling is as long as the one before it; from 4 to 256 there are six.
    assert steps[0] == pytest.approx(steps[1], abs=0.11)
    assert steps[2][0] == pytest.approx(6 * steps[0][0], abs=0.6)
