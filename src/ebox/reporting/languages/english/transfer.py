"""Sentences about a training that began with a trained network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _tell_source(values: Mapping[str, Any]) -> str:
    more = values["num_before"]
    before = f", which itself began with {'another one' if more == 1 else f'{more} others, one after another'}" * (
        more > 0
    )
    read = "" if values["length_bp"] is None else f", trained on sequences of {values['length_bp']:,} bp"
    return f"The training began with the network of {values['run']}{before}{read}, not with fresh weights."


_FRESH = {
    None: "All its layers were taken over.",
    "output": "Its output was drawn anew, and all other layers were taken over.",
    "head": "Its dense head was drawn anew, and all other layers were taken over.",
}
_FREEZE = {
    None: "None of them stayed as it was",
    "motifs": "The motif filters stayed as they were",
    "body": "All layers before the pooling stayed as they were",
}
_STATISTICS = {
    "move": "statistics of batch normalisation moved as in every training",
    "keep": "statistics of batch normalisation stayed those of the source",
    "estimate": "statistics of batch normalisation were estimated anew and then stayed",
}


def _tell_layers(values: Mapping[str, Any]) -> str:
    rates = f"others were trained at {values['rate']:g} of the rate"
    if values["rate_decay"] < 1.0:
        rates += f", times {values['rate_decay']:g} for each layer towards the sequence"
    if values["unfreeze_share"] > 0.0:
        rates += f", and joined one after another over {values['unfreeze_share']:.0%} of the steps"
    return f"{_FRESH[values['fresh']]} {_FREEZE[values['freeze']]}; {rates}; {_STATISTICS[values['statistics']]}."


def _tell_seen(values: Mapping[str, Any]) -> str:
    of, validation = values["of"], values["validation"]
    unknown = values["num_unknown"]
    if unknown == values["num_sources"]:
        gone = "the dataset that it was trained on is" if unknown == 1 else "the datasets that it was trained on are"
        return (
            f"it is not known which of {of:,} test and {validation['of']:,} validation sequences the source had seen, "
            f"since {gone} gone"
        )
    told = (
        f"of {of:,} test sequences the source had seen {values['num_same']:,} in its training, the same or nearly so, "
        f"and {values['num_related']:,} with relatives counted"
    )
    chosen = values["in_validation"]
    if chosen["num_related"]:
        told += (
            f"; it was chosen and calibrated on a validation split with {chosen['num_same']:,} of them, and "
            f"{chosen['num_related']:,} with relatives counted"
        )
    if values["num_related"] or chosen["num_related"]:
        told += "; the test split is measured with them and without them"
    told += _tell_validation(validation)
    if unknown:
        sets = "one dataset" if unknown == 1 else f"{unknown} datasets"
        told += f"; of {sets} that it was trained on this is not known"
    return told


def _tell_validation(values: Mapping[str, Any]) -> str:
    same = values["num_same"]
    told = f"; of {values['of']:,} validation sequences it had seen {same:,} in its training"
    if not same:
        return told
    return (
        f"{told}: beware, the step that is kept, calibration, thresholds and limits are chosen on them as if they were "
        "new, and may be too sure"
    )


TRANSFER: dict[str, Any] = {
    "transfer_source": _tell_source,
    "transfer_layers": _tell_layers,
    "seen_by_source": _tell_seen,
    "transfer_seen": lambda values: f"{_tell_seen(values)[:1].upper()}{_tell_seen(values)[1:]}.",
}
