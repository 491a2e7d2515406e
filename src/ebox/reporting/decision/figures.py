"""The charts of a plan and of a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ebox.drawing.charts import ChartAxis, Line, line_chart, make_axis
from ebox.drawing.comparisons import Spot, Swing, find_front, log_axis, scatter_chart, tornado_chart
from ebox.drawing.numbers import Real, format_measure, format_money, format_number
from ebox.reporting.languages import Language, capitalise
from ebox.storage.names import MODEL

Facts = Mapping[str, Any]
# The styles of platforms: those of the page's palette that stay apart.
PLATFORMS = {"cpu": "gc_logistic", "cuda": "model", "tpu": "kmer_logistic"}
_NUM_SWINGS, _MOST_SHOWN = 5, 10
# Free of charge, or too short to tell, for a logarithmic axis.
_LEAST = 1e-3
_TIMES: tuple[tuple[Real, str], ...] = (
    (0.001, "1 ms"),
    (0.1, "0.1 s"),
    (1, "1 s"),
    (10, "10 s"),
    (60, "1 min"),
    (600, "10 min"),
    (3600, "1 h"),
    (36_000, "10 h"),
    (360_000, "100 h"),
    (3_600_000, "1,000 h"),
    (36_000_000, "10,000 h"),
)
_AMOUNTS = tuple((10.0**power, f"{10.0**power:,g}" if power < 6 else f"10^{power}") for power in range(-3, 10))


def draw_front(
    name: str, options: Sequence[Facts], job: str, advised: str | None, currency: str, language: Language
) -> str | None:
    """Time against money of every way to do a job; the numbers are those of `number_front`.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        options: Of the plan.
        job: `one`, `search` or `factors`.
        advised: The id of the option that the plan advises.
        currency: Of the money.
        language: The language of the texts.
    """
    numbers = number_front(options, job, advised)
    spots = [
        Spot(
            max(entry["seconds"]["value"], _LEAST),
            max(entry["money"]["value"], _LEAST),
            PLATFORMS.get(option["platform"], "other"),
            str(numbers.get(option["id"], "")),
            option["id"] == advised,
        )
        for option in options
        if (entry := option["jobs"].get(job)) is not None and entry["money"] is not None
    ]
    if not spots:
        return None
    words = language.TEXTS["plan"]
    x, y = (
        log_axis(label.format(currency=currency), values, marks)
        for label, values, marks in (
            (words["front_axes"][0], [spot.x for spot in spots], _TIMES),
            (words["front_axes"][1], [spot.y for spot in spots], _AMOUNTS),
        )
    )
    here = {option["platform"] for option in options}
    key = [(style, words["platforms"][platform]) for platform, style in PLATFORMS.items() if platform in here]
    best = next((option for option in options if option["id"] == advised), None)
    told = {"seconds": "", "money": "", "machine": ""}
    if best is not None:
        told = {what: format_measure(best["jobs"][job][what], what) for what in ("seconds", "money")}
        told["machine"] = best["hardware"]
    title = words["front_title"].format(num=len(spots), **told)
    return scatter_chart(name, spots, x, y, title=title, key=key)


def number_front(options: Sequence[Facts], job: str, advised: str | None) -> dict[str, int]:
    """Ways to look at, numbered from the fastest, by their ids.

    They are those that no other one beats in both time and money, the one that is advised, and the one with the least
    energy; of many an even choice.

    Args:
        options: Of the plan.
        job: `one`, `search` or `factors`.
        advised: The id of the option that the plan advises.
    """
    places = {
        option["id"]: (entry["seconds"]["value"], entry["money"]["value"])
        for option in options
        if (entry := option["jobs"].get(job)) is not None and entry["money"] is not None
    }
    front = [spot.label for spot in find_front([Spot(x, y, "", id) for id, (x, y) in places.items()])]
    joules = {
        option["id"]: option["jobs"][job]["joules"]["value"]
        for option in options
        if option["id"] in places and option["jobs"][job]["joules"] is not None
    }
    shown = {*front[:: -(-len(front) // _MOST_SHOWN)], *front[-1:]} if front else set()
    shown |= {min(joules, key=lambda id: joules[id])} if joules else set()
    shown |= set(places) & {advised}
    return {id: number for number, id in enumerate(sorted(shown, key=lambda id: (places[id], id)), start=1)}


def draw_plan_tornado(name: str, rows: Sequence[Facts], money: Real, currency: str, language: Language) -> str | None:
    """What each assumption makes of the money of the advised machine, the widest first.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        rows: Of the plan, for one job.
        money: Of the advised machine.
        currency: Of the money.
        language: The language of the texts.
    """
    words = language.TEXTS["plan"]
    ranked = sorted(rows, key=lambda row: -abs(row["money_high"] - row["money_low"]))[:_NUM_SWINGS]
    swings = []
    for row in ranked:
        ends = [format_measure(row[end], "plain") for end in ("low", "high")]
        at = None if row["flips_at"] is None else format_measure(row["flips_at"], "plain")
        told = words["flips" if row["flips"] and at else "swing"].format(low=ends[0], high=ends[1], at=at)
        swings.append(Swing(capitalise(language.say(row["factor"])), row["money_low"], row["money_high"], told))
    axis = words["tornado_axis"].format(currency=currency)
    return _draw_tornado(name, swings, money, axis, words["tornado_title"], None)


def draw_worth_tornado(name: str, worth: Facts, currency: str, language: Language) -> str | None:
    """What is won at a half and at twice each assumption.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        worth: Of the decision.
        currency: Of the money.
        language: The language of the texts.
    """
    words = language.TEXTS["decision"]
    swings = []
    for row in worth["swings"][:_NUM_SWINGS]:
        unit = words["units"][row["factor"]]
        low, high = (format_measure(row[end], unit) for end in ("low", "high"))
        told = words["range"].format(low=low, high=high)
        swings.append(Swing(words["bars"][row["factor"]], row["net_low"], row["net_high"], told))
    axis = words["swings_axis"].format(currency=currency)
    return _draw_tornado(name, swings, worth["work"]["net"], axis, words["swings_title"], 0.0)


def _draw_tornado(
    name: str, swings: Sequence[Swing], base: Real, label: str, title: str, rule: Real | None
) -> str | None:
    if not swings:
        return None
    ends = [base, *(end for swing in swings for end in (swing.low, swing.high))]
    ends += [] if rule is None else [rule]
    axis = make_axis(label, min(ends), max(ends), num=4)
    values = "; ".join(f"{swing.label} {format_money(swing.low)}, {format_money(swing.high)}" for swing in swings)
    return tornado_chart(name, swings, base, axis, title=title.format(values=values), rule=rule)


def draw_learning_curve(name: str, curve: Facts | None, target: Real | None, language: Language) -> str | None:
    """AUROC by the number of training sequences: measured, and expected up to twice as many.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        curve: Of the plan; None: not drawn.
        target: A line across; None: none.
        language: The language of the texts.
    """
    if curve is None or not curve["points"]:
        return None
    words = language.TEXTS["decision"]
    points = sorted((point["num_examples"], point["auroc"]) for point in curve["points"])
    now, twice = points[-1][0], 2 * points[-1][0]
    both = [curve["at_now"], curve["at_twice"]]
    measured, expected, wanted = words["curve_parts"]
    ends = {end: [point[end] for point in both] for end in ("value", "low", "high")}
    lines = [
        Line([x for x, _ in points], [y for _, y in points], MODEL, measured, marks=True),
        Line([now, twice], ends["value"], "kmer_logistic", expected, low=ends["low"], high=ends["high"]),
    ]
    if target is not None:
        lines.append(Line([points[0][0], twice], [target, target], "train", wanted))
    values = [y for _, y in points] + ends["low"] + ends["high"] + ([] if target is None else [target])
    x = _count_axis(words["curve_axes"][0], [points[0][0], twice])
    y = make_axis(words["curve_axes"][1], min(values), max(values), num=4)
    told = {"now": both[0], "twice": both[1], "ceiling": curve["ceiling"]}
    title = words["curve_title"].format(**{key: format_number(entry["value"]) for key, entry in told.items()})
    return line_chart(name, lines, x, y, title=title, height=216.0, key=True)


def _count_axis(label: str, ends: Sequence[Real]) -> ChartAxis:
    marks = [(factor * 10.0**power, f"{factor * 10.0**power:,.0f}") for power in range(1, 9) for factor in (1, 2, 5)]
    return log_axis(label, ends, marks)
