"""Numbers as text: rounded, with separators and units; a dash where one is unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Real = int | float  # as JSON gives it
DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def format_number(value: Real | None, digits: int = 3) -> str:
    """A number with `digits` decimal places, a dash where it is unknown."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:.{digits}f}".replace("-", MINUS)


def format_count(value: Real | None) -> str:
    """A whole number with separators, a dash where it is unknown."""
    return DASH if value is None else f"{round(value):,}"


def format_percent(value: Real | None, digits: int = 1) -> str:
    """A share in percent."""
    return DASH if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def format_interval(entry: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Both ends of an interval, nothing where they are unknown."""
    if entry is None or entry.get("low") is None or entry.get("high") is None:
        return ""
    return f"{format_number(entry['low'], digits)} to {format_number(entry['high'], digits)}"


def format_spread(entry: Mapping[str, Any], digits: int = 4) -> str:
    """A mean and its standard deviation."""
    return f"{format_number(entry['mean'], digits)} ± {format_number(entry['sd'], digits)}"


def format_money(value: Real | None, currency: str = "") -> str:
    """An amount with its currency: whole from 100 on, with cents from 1 on, below with two digits; or a dash."""
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    if 0 < size < 0.0005:
        words = f"{MINUS if value < 0 else ''}< 0.001"
    else:
        words = f"{value:,.0f}" if size >= 100 or size == 0 else f"{value:.2f}" if size >= 1 else f"{value:.2g}"
    return f"{words} {currency}".strip().replace("-", MINUS)


def format_measure(found: Mapping[str, Any] | Real | None, unit: str, currency: str = "") -> str:
    """A number in its unit, and in brackets both ends of its interval where it has one.

    Args:
        found: A number, or an object with `value`, `low` and `high`.
        unit: `auroc`, `money`, `seconds`, `share`, `count`, or `plain` for three digits.
        currency: Of money.
    """
    if not isinstance(found, Mapping):
        return _format_unit(found, unit, currency)
    words, between = _format_unit(found["value"], unit, currency), format_range(found, unit)
    return f"{words} ({between})" if between else words


def format_range(found: Mapping[str, Any], unit: str) -> str:
    """Both ends of an interval; one without limit is said to be so, and nothing stands for none.

    Args:
        found: An object with `low` and `high`.
        unit: As for `format_measure`.
    """
    low, high = (found.get(end) for end in ("low", "high"))
    if low == high:
        return ""
    if high is None:
        return f"{_format_unit(low, unit, '')} or more"
    if low is None:
        return f"at most {_format_unit(high, unit, '')}"
    return f"{_format_unit(low, unit, '')} to {_format_unit(high, unit, '')}"


def _format_unit(value: Real | None, unit: str, currency: str) -> str:
    if unit == "money":
        return format_money(value, currency)
    if unit == "plain":
        words = DASH if value is None else f"{value:,.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
        return words.replace("-", MINUS)
    if unit == "auroc":
        return format_number(value)
    if unit == "seconds":
        return format_seconds(value)
    return format_percent(value) if unit == "share" else format_count(value)


def format_p(value: Real | None) -> str:
    """A two-sided p value, down to 0.001."""
    if value is None:
        return "p unknown"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def format_seconds(seconds: Real | None) -> str:
    """A duration in seconds, minutes or hours, as a person would say it."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_step_time(seconds: Real) -> str:
    """A short time in milliseconds, or in microseconds below one."""
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 or seconds == 0 else f"{seconds * 1e6:.3g} \N{MICRO SIGN}s"


def format_bytes(num: Real | None) -> str:
    """A size of memory in GiB."""
    return DASH if num is None else f"{num / 2**30:.1f} GiB"


def format_q(value: Real) -> str:
    """A q-value with two significant digits."""
    return "0" if value == 0 else f"{value:.1e}" if value < 0.001 else f"{value:.2g}"


def format_estimate(entry: Mapping[str, Any], digits: int = 3) -> str:
    """A value with its interval in brackets."""
    return f"{format_number(entry['value'], digits)} ({format_interval(entry, digits)})"


def format_factor(entry: Mapping[str, Any]) -> str:
    """A change of the logit as a factor of the odds, with its interval in brackets."""
    value, low, high = (math.exp(min(entry[key], 50.0)) for key in ("value", "low", "high"))
    return "{} ({} to {})".format(*(f"{end:,.0f}" if end >= 10 else f"{end:.2g}" for end in (value, low, high)))
