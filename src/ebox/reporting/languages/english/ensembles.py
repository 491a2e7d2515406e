"""Sentences about ensembles: how they were trained, what they gain over one member, what a distilled network keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebox.drawing.numbers import format_interval, format_number, format_percent
from ebox.reporting.languages.english.names import join_words, name_metric


def _tell_gain(gain: Mapping[str, Any]) -> str:
    """The gain in each metric, with its interval where it has one."""
    told = []
    for metric, test in gain.items():
        interval = format_interval(test["difference"])
        inside = f" (95 % interval {interval})" if interval else ""
        told.append(f"{format_number(test['difference']['value'], 4)} {name_metric(metric)}{inside}")
    return join_words(told)


def _tell_members(found: Mapping[str, Any]) -> str:
    """The lowest and the highest AUROC of a member."""
    values = sorted(member["auroc"] for member in found["members"])
    return f"{format_number(values[0], 4)} to {format_number(values[-1], 4)}"


def _tell_track(found: Mapping[str, Any]) -> str:
    """The track, where there are several."""
    return f"{found['track']}: " if found.get("track") else ""


def _tell_others(found: Mapping[str, Any]) -> str:
    """Of which sequences this is, where some have relatives in training, and the gain on the others."""
    relatives = found.get("relatives")
    if relatives is None:
        return ""
    taken = relatives["taken"]
    other = "with" if taken == "without" else "without"
    way = "leave out" if taken == "without" else "include"
    told = f" These figures {way} the test sequences with relatives in training"
    if relatives[other] is None:
        return f"{told}."
    return f"{told}; {other} them the ensemble gains {_tell_gain(relatives[other]['gain'])}."


def _tell_ensemble(found: Mapping[str, Any]) -> str:
    return (
        f"{_tell_track(found)}The mean of {found['num_members']} members gains {_tell_gain(found['gain'])} over one of "
        f"them, whose AUROC is {_tell_members(found)}.{_tell_others(found)}"
    )


def _tell_distilled(found: Mapping[str, Any]) -> str:
    return (
        f"{_tell_track(found)}One network was distilled from {found['num_members']} members, and gains "
        f"{_tell_gain(found['distilled']['gain'])} over one of them; the ensemble gains {_tell_gain(found['gain'])}. "
        f"{_tell_kept(found['distilled'])}{_tell_others(found)}"
    )


def _tell_kept(distilled: Mapping[str, Any]) -> str:
    """What it keeps of each gain that is shown; of others no share can be given."""
    intervals = distilled.get("kept_interval", {})
    kept, hidden = [], []
    for metric, share in distilled["kept"].items():
        if share is None:
            hidden.append(name_metric(metric))
            continue
        ends = intervals.get(metric)
        inside = (
            f" (95 % interval {format_percent(ends['low'], 0)} to {format_percent(ends['high'], 0)})" if ends else ""
        )
        kept.append(f"{format_percent(share, 0)}{inside} of the gain in {name_metric(metric)}")
    told = [f"It keeps {join_words(kept)}."] if kept else []
    if hidden:
        told.append(f"A gain of the ensemble in {join_words(hidden)} is not shown, so no share of it can be given.")
    return " ".join(told)


def _tell_training(found: Mapping[str, Any]) -> str:
    way = "side by side" if found["side_by_side"] else "one after another, which is fastest on processors"
    seeds = f"seeds {found['first_seed']} to {found['last_seed']}"
    return f"{found['num_members']} members ({seeds}) were trained {way}."


ENSEMBLES: dict[str, Any] = {
    "ensemble": _tell_ensemble,
    "distilled": _tell_distilled,
    "members_trained": _tell_training,
}
