"""What a better choice of sites is worth: experiments saved against machines and hours, and where it breaks even.

Sites are chosen by a score until a share `found` of the bound ones is kept. With `odds` unbound sites for each bound
one, and a share `false` of them chosen too, one confirmed site takes 1 + odds · false / found experiments. Two ways of
choosing differ in `false` alone, so the experiments that the better one saves are linear in the difference.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import NormalDist
from typing import Any

from ebox.planning.estimates import Estimate

# What is varied to a half and to twice, to see what would turn the result.
ASSUMPTIONS = ("factors", "per_hour", "setup_hours", "hours_per_factor", "cost", "wanted", "odds", "machine")
# What follows from the numbers of an undertaking.
DERIVED = (
    "hours",
    "gain_per_factor",
    "saved",
    "money",
    "net",
    "factors_to_break_even",
    "experiments_to_break_even",
    "hours_to_break_even",
)
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Work:
    """An undertaking, and what it replaces.

    Args:
        factors: How many factors.
        per_hour: Money for an hour of people's work.
        setup_hours: Hours of work once.
        hours_per_factor: Hours of work for each factor.
        machine: Money for the machines of one factor.
        cost: Money for one experiment.
        wanted: Confirmed sites wanted for each factor.
        odds: Unbound sites for each bound one, among those to choose from.
        avoided: By how much a smaller share of the unbound sites is chosen for each bound one that is found.
    """

    factors: float
    per_hour: float
    setup_hours: float
    hours_per_factor: float
    machine: float
    cost: float
    wanted: float
    odds: float
    avoided: float

    @property
    def hours(self) -> float:
        """Of people, for all of it."""
        return self.setup_hours + self.factors * self.hours_per_factor

    @property
    def money(self) -> float:
        """Of people and machines, for all of it."""
        return self.hours * self.per_hour + self.factors * self.machine

    @property
    def saved(self) -> float:
        """Experiments that one factor takes less."""
        return self.wanted * self.odds * self.avoided

    @property
    def net(self) -> float:
        """What is saved less what is spent, for all of it, in money."""
        return self.factors * self.saved * self.cost - self.money

    @property
    def gain_per_factor(self) -> float:
        """What one more factor saves less what it takes."""
        return self.saved * self.cost - self.hours_per_factor * self.per_hour - self.machine

    @property
    def factors_to_break_even(self) -> int | None:
        """From how many factors on it pays; None: each factor costs more than it saves."""
        setup = self.setup_hours * self.per_hour
        if self.gain_per_factor <= 0.0:
            return None
        return max(1, math.ceil(setup / self.gain_per_factor - 1e-9))

    @property
    def experiments_to_break_even(self) -> float | None:
        """How many experiments it has to save in all; None: they cost nothing."""
        return self.money / self.cost if self.cost else None

    @property
    def hours_to_break_even(self) -> float | None:
        """How many hours of people it has to save in all; None: they cost nothing."""
        return self.money / self.per_hour if self.per_hour else None

    def turns_at(self, name: str) -> float | None:
        """The value of one number, all others as they are, at which nothing is won or lost; None: there is none.

        What is won is linear in each number alone.
        """
        at_0 = replace(self, **{name: 0.0}).net
        slope = replace(self, **{name: 1.0}).net - at_0
        value = -at_0 / slope if slope else -1.0
        return value if value > 0.0 else None


def estimate_net(work: Work, avoided: Estimate, machine: Estimate) -> Estimate:
    """What is won, between the worst and the best of both estimates together."""
    worst = replace(work, avoided=avoided.low, machine=machine.high).net
    best = replace(work, avoided=avoided.high, machine=machine.low).net
    return Estimate(work.net, worst, best)


def list_swings(work: Work, avoided: Estimate) -> list[dict[str, Any]]:
    """What is won at a half and at twice each assumption, and at the ends of what is avoided; the widest first."""
    ends = {name: (getattr(work, name) / 2.0, getattr(work, name) * 2.0) for name in ASSUMPTIONS}
    ends["avoided"] = (avoided.low, avoided.high)
    swings = []
    for name, (low, high) in ends.items():
        net_low, net_high = (replace(work, **{name: value}).net for value in (low, high))
        swings.append(
            {
                "factor": name,
                "value": getattr(work, name),
                "low": low,
                "high": high,
                "net_low": net_low,
                "net_high": net_high,
                "flips": net_low * net_high < 0.0,
                "flips_at": work.turns_at(name),
            }
        )
    return sorted(swings, key=lambda swing: -abs(swing["net_high"] - swing["net_low"]))


def find_false_share(curve: Mapping[str, Sequence[float]], found: float, num_negative: int) -> float:
    """The share of the unbound that is chosen where a share `found` of the bound is, by a ROC curve.

    Args:
        curve: `x`, the false positive rates, and `y`, the true positive rates, both rising.
        found: The share of the bound, between 0 and 1.
        num_negative: Of how many unbound sites the curve was measured; a share below one of them can't be seen.
    """
    x, y = curve["x"], curve["y"]
    place = min(max(bisect_left(y, found), 1), len(y) - 1)
    rise = y[place] - y[place - 1]
    share = (found - y[place - 1]) / rise if rise > 0.0 else 1.0
    return max(x[place - 1] + min(max(share, 0.0), 1.0) * (x[place] - x[place - 1]), 1.0 / max(num_negative, 1))


def model_false_share(auroc: float, found: float) -> float:
    """The same of two normals of equal spread with this AUROC (Green and Swets 1966), for the width of an interval."""
    apart = math.sqrt(2.0) * _NORMAL.inv_cdf(min(max(auroc, 1e-6), 1.0 - 1e-6))
    return _NORMAL.cdf(_NORMAL.inv_cdf(found) - apart)


def describe_work(work: Work) -> dict[str, Any]:
    """Its numbers, and what follows from them, as facts."""
    named = [field.name for field in fields(work)]
    return {name: getattr(work, name) for name in (*named, *DERIVED)}
