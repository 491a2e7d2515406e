"""The model of a run as files: weights in safetensors, settings, and the maps that calibrate them."""

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
from ebox.models.ensemble import AnyNetwork, Ensemble, split_outputs
from ebox.models.network import Network
from ebox.models.rising import RisingMap
from ebox.models.tensors import load_tree, read_facts, save_tree
from ebox.sequences.codes import BASES
from ebox.settings.reading import Config, ModelConfig, make_config
from ebox.storage import stamps
from ebox.storage.run_folder import MEMBERS, MODEL, TENSOR_FACTS, check_run_folder
from ebox.storage.stamps import check_stamp, stamped


@dataclass(frozen=True)
class LoadedModel:
    """A trained network, or an ensemble of them, with what is needed to use it.

    `maps` calibrate the logits of each track further than the network itself does, those of an ensemble by their mean;
    none: no track needs one. `spread` is of a distilled network: its logits are the logarithms of the standard
    deviation of its ensemble's, before the maps.
    """

    network: AnyNetwork
    config: ModelConfig
    tracks: tuple[str, ...]
    length_bp: int
    facts: dict[str, Any]
    maps: tuple[RisingMap | None, ...] = ()
    spread: Network | None = None

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
    network: AnyNetwork,
    config: Config,
    tracks: tuple[str, ...],
    length_bp: int,
    knots: Sequence[Mapping[str, Any] | None] = (),
) -> None:
    """Publish the model into the run folder.

    Args:
        folder: The run folder.
        network: The trained network; an ensemble; or a distilled network, with a logit and a spread for each track.
        config: The settings, of which those of the model are kept.
        tracks: Names of the tracks.
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
    kind = stamps.MODEL
    if isinstance(network, Ensemble):
        kind, facts = stamps.ENSEMBLE, {**facts, "num_members": network.num_members}
    elif network.num_outputs > len(tracks):
        kind = stamps.DISTILLED
    save_tree(folder / MODEL, eqx.filter(network, eqx.is_array), stamped(kind, facts))


@dataclass(frozen=True)
class ModelDescription:
    """What a run folder holds: the settings of its networks, and all that was written beside the weights.

    `num_members` is how many networks an ensemble has; None: it is one network.
    """

    config: ModelConfig
    tracks: tuple[str, ...]
    length_bp: int
    facts: dict[str, Any]
    maps: tuple[RisingMap | None, ...] = ()
    num_members: int | None = None
    is_distilled: bool = False


def describe_model(run_folder: Path | str) -> ModelDescription:
    """Read what network a run folder holds, without its weights; needs no accelerator.

    Raises:
        InputError: there is no model, it reads bases in another order, or this ebox doesn't know its format.
    """
    folder = Path(run_folder)
    check_run_folder(folder)
    facts = read_facts(folder / MODEL)
    kind = next((one for one in (stamps.ENSEMBLE, stamps.DISTILLED) if one.name == facts.get("format")), stamps.MODEL)
    check_stamp(facts, kind, folder / MODEL)
    try:
        settings, tracks, length_bp = facts["model"], tuple(facts["tracks"]), int(facts["length_bp"])
        maps = tuple(None if one is None else RisingMap.read(one) for one in facts.get("knots") or ())
        if maps and len(maps) != len(tracks):
            raise ValueError(f"{len(maps)} maps for {len(tracks)} tracks")
        num_members = int(facts["num_members"]) if kind is stamps.ENSEMBLE else None
        if num_members is not None and num_members < 1:
            raise ValueError(f"{num_members} members")
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
    return ModelDescription(config, tracks, length_bp, facts, maps, num_members, kind is stamps.DISTILLED)


def load_model(run_folder: Path | str) -> LoadedModel:
    """Read the trained network of a run folder, or its ensemble.

    Raises:
        InputError: there is no model, it is corrupt, or this ebox doesn't know its format.
    """
    found = describe_model(run_folder)
    outputs = len(found.tracks) * (2 if found.is_distilled else 1)
    one = build_model(found.config, outputs, found.length_bp, np.random.default_rng(0))
    like: AnyNetwork = one if found.num_members is None else Ensemble.of([one] * found.num_members)
    arrays, static = eqx.partition(like, eqx.is_array)
    network: AnyNetwork = eqx.combine(load_tree(Path(run_folder) / MODEL, arrays), static)
    spread = None
    if found.is_distilled:
        assert isinstance(network, Network)
        network, spread = split_outputs(network, len(found.tracks))
    return LoadedModel(network, found.config, found.tracks, found.length_bp, found.facts, found.maps, spread)


def load_teacher(run_folder: Path | str) -> LoadedModel:
    """The ensemble that the network of a run was distilled from.

    Raises:
        InputError: it is gone or corrupt, or this ebox doesn't know its format.
    """
    return load_model(Path(run_folder) / MEMBERS)
