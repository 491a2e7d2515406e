"""The model of a run as files: weights in safetensors, and the settings that say what networks they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from ebox.errors import InputError
from ebox.models.architectures import build_model
from ebox.models.ensemble import AnyNetwork, Ensemble, split_outputs
from ebox.models.network import Network
from ebox.models.tensors import FACTS, load_tree, read_facts, save_tree
from ebox.settings.reading import Config, ModelConfig, make_config
from ebox.storage import stamps
from ebox.storage.run_folder import MEMBERS, MODEL, check_run_folder
from ebox.storage.stamps import check_stamp, stamped


@dataclass(frozen=True)
class LoadedModel:
    """A trained network, or an ensemble of them, with what is needed to use it.

    `spread` is of a distilled network: its logits are the logarithms of the standard deviation of its ensemble's.
    """

    network: AnyNetwork
    config: ModelConfig
    tracks: tuple[str, ...]
    length_bp: int
    facts: dict[str, Any]
    spread: Network | None = None


def save_model(folder: Path, network: AnyNetwork, config: Config, tracks: tuple[str, ...], length_bp: int) -> None:
    """Publish the model into the run folder.

    Args:
        folder: The run folder.
        network: The trained network; an ensemble; or a distilled network, with a logit and a spread for each track.
        config: The settings, of which those of the model are kept.
        tracks: Names of the tracks.
        length_bp: Length of the training sequences.
    """
    facts = {"model": config.model.model_dump(mode="json"), "tracks": list(tracks), "length_bp": length_bp}
    kind = stamps.MODEL
    if isinstance(network, Ensemble):
        kind, facts = stamps.ENSEMBLE, {**facts, "num_members": network.num_members}
    elif network.num_outputs > len(tracks):
        kind = stamps.DISTILLED
    save_tree(folder / MODEL, eqx.filter(network, eqx.is_array), stamped(kind, facts))


def load_model(run_folder: Path | str) -> LoadedModel:
    """Read the trained network of a run folder.

    Raises:
        InputError: there is no model, it is corrupt, or this ebox doesn't know its format.
    """
    folder = Path(run_folder)
    check_run_folder(folder)
    facts = read_facts(folder / MODEL)
    kind = next((one for one in (stamps.ENSEMBLE, stamps.DISTILLED) if one.name == facts.get("format")), stamps.MODEL)
    check_stamp(facts, kind, folder / MODEL)
    try:
        settings, tracks, length_bp = facts["model"], tuple(facts["tracks"]), int(facts["length_bp"])
        num_members = range(1, int(facts["num_members"]) + 1)[-1] if kind is stamps.ENSEMBLE else 1
    except (IndexError, KeyError, TypeError, ValueError):
        raise InputError("does not describe a network", file=folder / MODEL / FACTS, remedy="train again") from None
    config = make_config({"model": settings}, file=folder / MODEL).model
    outputs = len(tracks) * (2 if kind is stamps.DISTILLED else 1)
    one = build_model(config, outputs, length_bp, np.random.default_rng(0))
    like: AnyNetwork = Ensemble.of([one] * num_members) if kind is stamps.ENSEMBLE else one
    arrays, static = eqx.partition(like, eqx.is_array)
    network: AnyNetwork = eqx.combine(load_tree(folder / MODEL, arrays), static)
    spread = None
    if kind is stamps.DISTILLED:
        assert isinstance(network, Network)
        network, spread = split_outputs(network, len(tracks))
    return LoadedModel(network, config, tracks, length_bp, facts, spread)


def load_teacher(run_folder: Path | str) -> LoadedModel:
    """The ensemble that the network of a run was distilled from.

    Raises:
        InputError: it is gone or corrupt, or this ebox doesn't know its format.
    """
    return load_model(Path(run_folder) / MEMBERS)
