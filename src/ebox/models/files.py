"""The model of a run as files: weights in safetensors, the settings of the network, and the maps that calibrate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ebox.errors import InputError
from ebox.models.architectures import build_model
from ebox.models.network import Network
from ebox.models.rising import RisingMap
from ebox.models.tensors import load_tree, read_facts, save_tree
from ebox.sequences.codes import BASES
from ebox.settings.reading import Config, ModelConfig, make_config
from ebox.storage.run_folder import MODEL, TENSOR_FACTS, check_run_folder
from ebox.storage.stamps import MODEL as MODEL_STAMP
from ebox.storage.stamps import check_stamp, stamped


@dataclass(frozen=True)
class LoadedModel:
    """A trained network with what is needed to use it.

    `maps` calibrate the logits of each track further than the network itself does; none: no track needs one.
    """

    network: Network
    config: ModelConfig
    tracks: tuple[str, ...]
    length_bp: int
    facts: dict[str, Any]
    maps: tuple[RisingMap | None, ...] = ()

    def calibrate(self, logits: Float[np.ndarray, "example track"]) -> Float[np.ndarray, "example track"]:
        """The logits whose logistic function is the probability, from those of the network; the order stays."""
        if not any(self.maps):
            return logits
        return np.stack([self.calibrate_track(column, track) for track, column in enumerate(logits.T)], axis=1)

    def calibrate_track(self, logits: Float[np.ndarray, " example"], track: int) -> Float[np.ndarray, " example"]:
        """The same for one track."""
        found = self.maps[track] if self.maps else None
        return logits if found is None else found.apply(logits)


def save_model(
    folder: Path,
    network: Network,
    config: Config,
    tracks: tuple[str, ...],
    length_bp: int,
    knots: Sequence[Mapping[str, Any] | None] = (),
) -> None:
    """Publish the model into the run folder.

    Args:
        folder: The run folder.
        network: The trained network.
        config: The settings, of which those of the model are kept.
        tracks: Names of the tracks, one per logit.
        length_bp: Length of the training sequences.
        knots: For each track those of the map that calibrates its logits, or None; nothing: there are no maps.
    """
    facts = {
        "model": config.model.model_dump(mode="json"),
        "tracks": list(tracks),
        "length_bp": length_bp,
        "bases": BASES,
        "knots": list(knots) if any(knots) else None,
    }
    save_tree(folder / MODEL, eqx.filter(network, eqx.is_array), stamped(MODEL_STAMP, facts))


@dataclass(frozen=True)
class ModelDescription:
    """What network a run folder holds: its settings, and all that was written beside its weights."""

    config: ModelConfig
    tracks: tuple[str, ...]
    length_bp: int
    facts: dict[str, Any]
    maps: tuple[RisingMap | None, ...] = ()


def describe_model(run_folder: Path | str) -> ModelDescription:
    """Read what network a run folder holds, without its weights; needs no accelerator.

    Raises:
        InputError: there is no model, it reads bases in another order, or this ebox doesn't know its format.
    """
    folder = Path(run_folder)
    check_run_folder(folder)
    facts = check_stamp(read_facts(folder / MODEL), MODEL_STAMP, folder / MODEL)
    try:
        settings, tracks, length_bp = facts["model"], tuple(facts["tracks"]), int(facts["length_bp"])
        maps = tuple(None if one is None else RisingMap.read(one) for one in facts.get("knots") or ())
        if maps and len(maps) != len(tracks):
            raise ValueError(f"{len(maps)} maps for {len(tracks)} tracks")
    except (KeyError, TypeError, ValueError):
        raise InputError(
            "does not describe a network", file=folder / MODEL / TENSOR_FACTS, remedy="train again"
        ) from None
    # A model of before the order was written has this one.
    found = facts.get("bases", BASES)
    if found != BASES:
        raise InputError(
            f"reads the bases in the order {found}, and ebox writes them as {BASES}",
            file=folder / MODEL / TENSOR_FACTS,
            remedy="use a network that ebox trained",
        )
    config = make_config({"model": settings}, file=folder / MODEL).model
    return ModelDescription(config, tracks, length_bp, facts, maps)


def load_model(run_folder: Path | str) -> LoadedModel:
    """Read the trained network of a run folder.

    Raises:
        InputError: there is no model, it is corrupt, or this ebox doesn't know its format.
    """
    found = describe_model(run_folder)
    like = build_model(found.config, len(found.tracks), found.length_bp, np.random.default_rng(0))
    arrays, static = eqx.partition(like, eqx.is_array)
    network = eqx.combine(load_tree(Path(run_folder) / MODEL, arrays), static)
    return LoadedModel(network, found.config, found.tracks, found.length_bp, found.facts, found.maps)
