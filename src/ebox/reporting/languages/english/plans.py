"""Sentences of a plan: why an option is recommended, what would flip that, stages, and what a figure rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebox.drawing.numbers import format_money, format_percent, format_seconds
from ebox.reporting.languages.english.names import join_words
from ebox.reporting.languages.english.prices import PRICES


def _money_and_time(values: Mapping[str, Any]) -> str:
    return f"{format_money(values['money'], values['currency'])} and {format_seconds(values['seconds'])}"


def _tell_least(values: Mapping[str, Any]) -> str:
    counted = f"an hour of waiting is counted as {values['hour_worth']:g} {values['currency']}"
    if values["handling"] > 0:
        counted += f", the person who sets a machine up as {values['handling']:,.0f} {values['currency']}"
    return (
        f"{values['option']}: {_money_and_time(values)}; money, waiting and setting up are least together ({counted})"
    )


def _tell_price(values: Mapping[str, Any]) -> str:
    host = f" and {format_money(values['host'])} for its host" if values["host"] > 0 else ""
    told = [values["region"], "date unknown" if values["date"] is None else values["date"], values["source"]]
    price = f"{format_money(values['device'], values['currency'])}{host}"
    return f"its price ({values['id']}) is {price} for a device and an hour ({'; '.join(filter(None, told))})"


def _tell_owned(values: Mapping[str, Any]) -> str:
    source = values["source"]
    if source == "assumption":
        source = f"assumed: say what yours costs under [owned.{values['id']}] in a file for --prices"
    return (
        f"it is counted by its electricity and its wear: {format_money(values['purchase'], values['currency'])} over "
        f"{values['years']:g} years, in use {format_percent(values['use_share'], 0)} of the time ({source})"
    )


def _tell_energy(values: Mapping[str, Any]) -> str:
    if values["joules"] is None:
        return "its energy is not known" + (", so electricity is not in its money" if values["is_owned"] else "")
    return f"its energy, {values['joules'] / 3.6e6:,.3g} kWh, is taken {PRICES[values['from']]}"


def _tell_extreme(word: str, values: Mapping[str, Any]) -> str:
    if values["is_recommended"]:
        return f"it is the {word} of all options"
    return f"the {word} is {values['option']}: {_money_and_time(values)}"


def _tell_error(values: Mapping[str, Any]) -> str:
    return "" if values["error"] is None else f", which is off by up to {format_percent(values['error'], 0)}"


PLANS: dict[str, Any] = {
    # Why an option is recommended.
    "plan_least_worth": _tell_least,
    "plan_price": _tell_price,
    "plan_owned": _tell_owned,
    "plan_energy": _tell_energy,
    "plan_cheapest": lambda values: _tell_extreme("cheapest", values),
    "plan_fastest": lambda values: _tell_extreme("fastest", values),
    "plan_measured": "its step was measured (profile {profile})",
    "plan_fitted": lambda values: (
        f"its step is fitted to measured ones (profile {values['profile']}){_tell_error(values)}"
    ),
    "plan_modelled": "its step is carried over from another machine (profile {profile}), which nobody checked there: "
    "measure with `ebox bench` on it before money is spent",
    "plan_over_budget": lambda values: (
        f"no option keeps the budget of {format_money(values['budget'], values['currency'])}: this one costs "
        f"{format_money(values['money'], values['currency'])}"
    ),
    "plan_over_deadline": lambda values: (
        f"it takes {format_seconds(values['seconds'])}, longer than {values['hours']:g} h: no option keeps "
        + ("the deadline" if values["budget"] is None else "both the budget and the deadline")
    ),
    "plan_runner_up": lambda values: f"next best elsewhere is {values['option']}: {_money_and_time(values)}",
    "plan_start_dominates": lambda values: (
        f"start-up and compilation take {format_seconds(values['seconds'])} of {format_seconds(values['of_seconds'])}"
    ),
    "plan_spot": "spot machines may be taken back: the training goes on from its last checkpoint, which is counted",
    # What is changed to see whether the choice flips.
    "tornado_price": "the price of the recommended offer",
    "tornado_step_seconds": "the time of a step there",
    "tornado_steps": "the steps of a training",
    "tornado_start": "the start-up of machines",
    "tornado_interruptions": "interruptions of spot machines",
    "tornado_trainings": "the number of trainings",
    "tornado_handling": "the time of a person to set up a rented machine",
    "tornado_hour_worth": "what an hour of waiting is worth",
    # Which stage belongs where.
    "stages_same": lambda values: f"all stages belong on one machine: {join_words(values['offers'])}",
    "stages_split": lambda values: f"the stages belong on different machines: {join_words(values['offers'])}",
    "stages_rent_from": "from about {trainings:,} trainings on, renting is better than the machine at hand; for fewer, "
    "starting a rented machine and setting it up cost more than they save",
    "stages_never_rent": "the machine at hand is better than any rented one, up to {trainings:,} trainings",
    "stages_always_rent": "renting is better than the machine at hand even for one training",
    "stages_over_budget": lambda values: (
        f"all stages together cost {format_money(values['money'], values['currency'])}, more than the budget of "
        f"{format_money(values['budget'], values['currency'])}"
    ),
    "stages_over_deadline": lambda values: (
        f"all stages together take {format_seconds(values['seconds'])}, longer than {values['hours']:g} h"
    ),
    # On what a prediction rests.
    "error_repeats": "half the range of its repeats",
    "error_left_out": "the largest error at a measured step that the fit did not see",
    "error_reference": "the largest error of the model on the machine that it is carried over from",
    "error_unknown": "unknown: no machine of its kind was measured",
    # What the options leave out.
    "no_profile_of_processors": "no profile of a processor was given, so processors for rent are left out",
    "reference_used": "GPUs and TPUs are carried over from the profile {profile} that comes with ebox; measure on one "
    "with `ebox bench` to replace it",
    "no_slice_compiler": "slices of TPUs rest on the table of hardware alone: {problem}; {remedy}",
    "slices_not_compiled": lambda values: (
        f"nothing was compiled for {join_words(values['kinds'])}: they rest on the table of hardware alone"
    ),
    "profile_unused": "no option rests on the profile {profile}: another one is of the same device, or no offer is of "
    "its kind",
    "no_slices_known": lambda values: (
        f"offers of {join_words(values['hardware'])} are left out: their slices are not known to ebox"
    ),
    "reference_of_other_network": "the profile of another network was scaled by operations, {share:.2g} times",
    "figures_borrowed": lambda values: (
        f"the profile {values['profile']} lacks {join_words(values['figures'])}: taken from another profile, or assumed"
    ),
    "link_inside_assumed": lambda values: (
        f"the speed of the link between devices is not stated for {join_words(values['hardware'])}: that of PCIe, "
        f"{values['gigabytes_per_second']:g} GB/s, was taken"
    ),
    "link_assumed": "machines are taken to be connected by {gbit_per_second:g} Gbit/s (--link)",
    # Of the plan as a whole.
    "target_unreachable": lambda values: (
        f"the target {values['target']:g} is "
        + ("out of reach" if values["high"] < values["target"] else "more likely out of reach than not")
        + f": more steps lead to {values['value']:.4f} ({values['low']:.4f} to {values['high']:.4f}); lower it, or add "
        "data"
    ),
    "no_learning_measured": "no whole training was measured, so the epochs of the settings are planned; measure with "
    "`ebox bench`",
    "no_target": "without --target a training has the {epochs:g} epochs of the settings",
    "no_learning_curve": "what more data would bring was not measured: `ebox bench … --curve` measures it",
    "task_rented": "{recommended} is a machine that you own, and SkyPilot rents: the task is for {option}, "
    "the best that is for rent",
    "equal_factors": "{factors:,} factors with {folds} trainings each are taken to have as much data as this one",
}
