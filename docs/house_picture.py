"""The picture of the house: floors from the ground up, a box for each package, an arrow for each import that counts.

Boxes and the turns of long arrows stand in layers (Sugiyama 1981): their order in a floor comes from the mean place of
their neighbours, their distance from the least squares that keep them apart.
"""

from __future__ import annotations

import random
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from xml.sax.saxutils import escape

from house import FLOORS, HEIGHT, list_edges, read_purpose, reduce_edges, uses_jax

WIDTH, MARGIN, HEADER, FOOTER = 1120, 84, 92, 30
BOX_WIDTH, LINE_HEIGHT, GAP = 262, 15, 44
APART, TURN_APART = 26, 18
# As wide as the widest of the fonts (DejaVu Sans) lets them be.
LETTERS_A_LINE = 36
SWEEPS = 48
# Orders of the floors from which the search for few crossings begins, the first that of FLOORS; and its rounds.
STARTS, ROUNDS = 100, 6
# How much a straight arrow matters, by how many of its two ends are turns (Gansner 1993); and the middle of the paper.
STRAIGHT, CENTRED = (1.0, 2.0, 8.0), 0.03
INK, SOFT, LINE, PAPER = "#1f2937", "#4b5563", "#64748b", "#ffffff"
PLAIN, ON_JAX, PLANNED = "#0f766e", "#4f46e5", "#94a3b8"
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

# A package, or the turn of an arrow between two of them in a floor that it passes.
Turn = tuple[str, str, int]
Place = str | Turn


@dataclass(frozen=True)
class Plan:
    """What stands on each floor, from left to right, and the ways of the arrows through the floors."""

    floors: list[list[Place]]
    ways: list[list[Place]]

    @cached_property
    def neighbours(self) -> dict[Place, list[Place]]:
        """What each place is joined to, one floor above or below."""
        joined: dict[Place, list[Place]] = {place: [] for floor in self.floors for place in floor}
        for way in self.ways:
            for upper, lower in pairwise(way):
                joined[upper].append(lower)
                joined[lower].append(upper)
        return joined

    def count_crossings(self) -> int:
        """How often two arrows cross between two floors."""
        spots = {place: spot for floor in self.floors for spot, place in enumerate(floor)}
        steps = [(_height(upper), spots[upper], spots[lower]) for way in self.ways for upper, lower in pairwise(way)]
        return sum(
            first[0] == second[0] and (first[1] - second[1]) * (first[2] - second[2]) < 0
            for first, second in combinations(steps, 2)
        )


def draw_house() -> str:
    """The picture as SVG; the same code gives the same bytes."""
    edges = list_edges()
    plan = make_plan(reduce_edges(edges))
    return render(plan, place_columns(plan), sum(map(len, edges.values())))


def make_plan(edges: Sequence[tuple[str, str]]) -> Plan:
    """Line the boxes and the turns of each floor up so that few arrows cross."""
    ways = [list(_lead(upper, lower)) for upper, lower in edges]
    floors: list[list[Place]] = [list(names) for names in FLOORS]
    for way in ways:
        for turn in way[1:-1]:
            floors[_height(turn)].append(turn)
    draw = random.Random(0)
    plans = []
    for _ in range(STARTS):
        plan = best = Plan([list(floor) for floor in floors], ways)
        for sweep in range(ROUNDS):
            plan = Plan(_order(plan, upwards=sweep % 2 == 0), ways)
            best = min(best, plan, key=Plan.count_crossings)
        plans.append(_switch(best))
        for floor in floors:
            draw.shuffle(floor)
    return min(plans, key=Plan.count_crossings)


def _switch(plan: Plan) -> Plan:
    """Switch neighbours on a floor as long as that leaves fewer crossings."""
    spots = [(height, spot) for height, floor in enumerate(plan.floors) for spot in range(len(floor) - 1)]
    for height, spot in spots:
        floors = [list(floor) for floor in plan.floors]
        floor = floors[height]
        floor[spot], floor[spot + 1] = floor[spot + 1], floor[spot]
        if (other := Plan(floors, plan.ways)).count_crossings() < plan.count_crossings():
            return _switch(other)
    return plan


def _lead(upper: str, lower: str) -> Iterator[Place]:
    yield upper
    yield from ((upper, lower, height) for height in range(HEIGHT[upper] - 1, HEIGHT[lower], -1))
    yield lower


def _height(place: Place) -> int:
    return HEIGHT[place] if isinstance(place, str) else place[2]


def _order(plan: Plan, *, upwards: bool) -> list[list[Place]]:
    """Sort each floor by the mean spot of its neighbours on the floor that was sorted before."""
    floors = [list(floor) for floor in plan.floors]
    step = -1 if upwards else 1
    for height in range(len(floors)) if upwards else reversed(range(len(floors))):
        near = floors[height + step] if 0 <= height + step < len(floors) else []
        spots = {place: (spot + 0.5) / len(near) for spot, place in enumerate(near)}
        own = {place: (spot + 0.5) / len(floors[height]) for spot, place in enumerate(floors[height])}
        floors[height].sort(
            key=lambda place, spots=spots, own=own: _mean(
                [spots[other] for other in plan.neighbours[place] if other in spots] or [own[place]]
            )
        )
    return floors


def place_columns(plan: Plan) -> dict[Place, float]:
    """The middle of each box and the place of each turn, in pixels from the left: near what it is joined to."""
    middle = (MARGIN + WIDTH) / 2
    columns: dict[Place, float] = {place: middle for floor in plan.floors for place in floor}
    for _ in range(SWEEPS):
        for floor in plan.floors:
            wanted = [_pull(place, plan.neighbours[place], columns, middle) for place in floor]
            columns |= zip(floor, spread(floor, wanted), strict=True)
    return columns


def _pull(place: Place, near: Sequence[Place], columns: Mapping[Place, float], middle: float) -> float:
    weights = [STRAIGHT[isinstance(place, tuple) + isinstance(other, tuple)] for other in near]
    pulls = [weight * columns[other] for weight, other in zip(weights, near, strict=True)]
    return (sum(pulls) + CENTRED * middle) / (sum(weights) + CENTRED)


def spread(floor: Sequence[Place], wanted: Sequence[float]) -> list[float]:
    """Places as near as can be to the wanted ones, in this order, apart, and on the paper.

    With the widths taken off, that is a regression by a function that never falls; pools of what would overlap are
    replaced by their mean (Ayer 1955).
    """
    offsets = [0.0]
    for left, right in pairwise(floor):
        apart = APART if isinstance(left, str) and isinstance(right, str) else TURN_APART
        offsets.append(offsets[-1] + (width_of(left) + width_of(right)) / 2 + apart)
    pools: list[list[float]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        pools.append([want - offset])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    least = MARGIN + width_of(floor[0]) / 2
    most = WIDTH - MARGIN / 2 - width_of(floor[-1]) / 2 - offsets[-1]
    bases = [min(max(_mean(pool), least), most) for pool in pools for _ in pool]
    return [base + offset for base, offset in zip(bases, offsets, strict=True)]


def render(plan: Plan, columns: Mapping[Place, float], num_imports: int) -> str:
    """Draw floors, arrows and boxes."""
    tops = _stack_floors()
    bottom = tops[0] + _floor_height(0)
    body = [*_draw_header(len(plan.ways), num_imports), *_draw_floors(tops)]
    ports = _find_ports(plan, columns)
    body += [_draw_arrow(way, columns, ports, tops) for way in plan.ways]
    body += [part for name in HEIGHT for part in _draw_box(name, columns[name], tops[HEIGHT[name]])]
    marker = (
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0,0.8L7.4,4L0,7.2z" fill="{LINE}"/></marker>'
    )
    size = f'viewBox="0 0 {WIDTH} {bottom + FOOTER}" width="{WIDTH}" height="{bottom + FOOTER}"'
    title = "The packages of ebox and the order of their imports"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{escape(FONT)}" role="img">'
    paper = f'<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>'
    return "\n".join([head, f"<title>{title}</title>", f"<defs>{marker}</defs>", paper, *body, "</svg>"]) + "\n"


def _wrap(name: str) -> list[str]:
    purpose = read_purpose(name)
    return ["to come"] if purpose is None else textwrap.wrap(purpose, LETTERS_A_LINE)


def _floor_height(height: int) -> int:
    return 40 + LINE_HEIGHT * max(len(_wrap(name)) for name in FLOORS[height])


def _stack_floors() -> list[int]:
    """The upper edge of each floor, counted from the ground, in pixels from the top."""
    tops, below = [0] * len(FLOORS), HEADER
    for height in reversed(range(len(FLOORS))):
        tops[height] = below
        below += _floor_height(height) + GAP
    return tops


def _find_ports(plan: Plan, columns: Mapping[Place, float]) -> dict[tuple[Place, Place], float]:
    """Where an arrow leaves or reaches a place, by that place and the next: spread over a box in the order of them."""
    ports: dict[tuple[Place, Place], float] = {}
    for place, near in plan.neighbours.items():
        for side in (-1, 1):
            ends = sorted((one for one in near if _height(one) == _height(place) + side), key=columns.__getitem__)
            for spot, end in enumerate(ends):
                share = (spot + 1) / (len(ends) + 1) - 0.5
                ports[place, end] = columns[place] + share * (0.8 * BOX_WIDTH if isinstance(place, str) else 0)
    return ports


def _draw_arrow(
    way: Sequence[Place],
    columns: Mapping[Place, float],
    ports: Mapping[tuple[Place, Place], float],
    tops: Sequence[int],
) -> str:
    """A curve between two floors, a straight line through each floor that is passed."""
    words = []
    for upper, lower in pairwise(way):
        start, end = ports[upper, lower], ports[lower, upper]
        high, low = tops[_height(upper)] + _floor_height(_height(upper)), tops[_height(lower)]
        turn = (high + low) / 2
        words.append(
            f"{'L' if words else 'M'}{start:.0f},{high}C{start:.0f},{turn:.0f} {end:.0f},{turn:.0f} {end:.0f},{low}"
        )
    about = f"{way[0]} imports {way[-1]}"
    return (
        f'<path d="{"".join(words)}" fill="none" stroke="{LINE}" stroke-width="1.2" marker-end="url(#tip)">'
        f"<title>{about}</title></path>"
    )


def _draw_box(name: str, middle: float, top: int) -> Iterator[str]:
    """The name, and below it the purpose; dashed where the package is not built yet."""
    is_planned = read_purpose(name) is None
    colour = PLANNED if is_planned else ON_JAX if uses_jax(name) else PLAIN
    left, tall = round(middle - BOX_WIDTH / 2), _floor_height(HEIGHT[name])
    style = f'stroke="{colour}" stroke-width="1.2"' + (' stroke-dasharray="5 4"' if is_planned else "")
    yield f'<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{tall}" rx="7" fill="{PAPER}" {style}/>'
    if not is_planned:
        yield f'<path d="M{left + 7},{top}a7,7 0 0 0 -7,7v{tall - 14}a7,7 0 0 0 7,7z" fill="{colour}"/>'
    yield _text(name, left + 17, top + 22, 14, PLANNED if is_planned else INK, 'font-weight="600"')
    for number, line in enumerate(_wrap(name)):
        yield _text(line, left + 17, top + 40 + LINE_HEIGHT * number, 11, PLANNED if is_planned else SOFT)


def _draw_floors(tops: Sequence[int]) -> Iterator[str]:
    for height, top in enumerate(tops):
        if height % 2 == 0:
            tall = _floor_height(height) + 24
            yield f'<rect x="16" y="{top - 12}" width="{WIDTH - 32}" height="{tall}" rx="8" fill="#f3f5f9"/>'
        yield _text(str(height), 46, top + _floor_height(height) / 2 + 5, 15, "#a3adba", 'text-anchor="middle"')


def _draw_header(num_drawn: int, num_imports: int) -> Iterator[str]:
    yield _text("The house of ebox", 32, 40, 21, INK, 'font-weight="600"')
    yield _text(
        f"An arrow: imports. All go down. {num_drawn} of {num_imports} are drawn; the others follow from these.",
        *(32, 62, 12.5, SOFT),
    )
    keys = [("no JAX", PLAIN, False), ("uses JAX", ON_JAX, False), ("to come", PLANNED, True)]
    for number, (words, colour, is_dashed) in enumerate(keys):
        left = WIDTH - 326 + 104 * number
        style = ' stroke-dasharray="4 3"' if is_dashed else ""
        fill = PAPER if is_dashed else colour
        yield f'<rect x="{left}" y="30" width="12" height="12" rx="3" fill="{fill}" stroke="{colour}"{style}/>'
        yield _text(words, left + 19, 40, 12.5, SOFT)


def _text(words: str, left: float, base: float, size: float, colour: str, more: str = "") -> str:
    about = f'x="{left:.0f}" y="{base:.0f}" font-size="{size:g}" fill="{colour}"{" " if more else ""}{more}'
    return f"<text {about}>{escape(words)}</text>"


def width_of(place: Place) -> int:
    """What a place takes of its floor, in pixels."""
    return BOX_WIDTH if isinstance(place, str) else 0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
