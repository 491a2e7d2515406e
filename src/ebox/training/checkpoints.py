"""Checkpoints: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ebox.errors import InputError
from ebox.mesh.build import EXCHANGES
from ebox.mesh.devices import DEVICE_AXIS
from ebox.mesh.hosts import to_host
from ebox.models.network import Network
from ebox.models.tensors import load_tree, read_arrays, read_facts, save_tree
from ebox.settings.reading import Config, ParallelConfig, TrainConfig, fingerprint_source
from ebox.storage.run_folder import CHECKPOINTS, TENSOR_FACTS
from ebox.storage.stamps import CHECKPOINT, OtherFormatError, check_stamp, stamped
from ebox.training.schedules import Schedule
from ebox.training.state import TrainState

KEPT_CHECKPOINTS = 2
# Start of the names of the arrays that have one row per device.
CARRIED = "[0].carried"


@dataclass(frozen=True)
class Standing:
    """How far a run has come, beside its arrays.

    Args:
        step: Number of steps made.
        seconds: Time of the training until here, over all its starts.
        best_step: Step of the best validation.
        kept_step: Step of the network that is kept.
        best_value: The best validation's measure, greater being better; none before the first validation.
        validations_since_best: Number of validations since one was better than all before.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    kept_step: int = 0
    best_value: float | None = None
    validations_since_best: int = 0

    def after(self, measured: Mapping[str, float], train: TrainConfig) -> Standing:
        """The standing after a validation; the network is kept where `kept_step` is then the step."""
        value = -measured["loss"] if train.monitor == "loss" else measured[train.monitor]
        best = self.best_value
        # Of equal networks the later is kept, but only a better one resets the patience.
        missed = 0 if best is None or value > best else self.validations_since_best + 1
        standing = replace(self, validations_since_best=missed)
        if best is None or value >= best:
            standing = replace(standing, best_step=self.step, best_value=value)
        if train.keep == "last" or best is None or value >= best:
            standing = replace(standing, kept_step=self.step)
        return standing

    def is_exhausted(self, train: TrainConfig) -> bool:
        """Whether patience has run out."""
        return train.patience is not None and self.validations_since_best >= train.patience


@dataclass(frozen=True)
class RunIdentity:
    """What must be the same for a run to go on: settings of network and training, the data, the network it began with.

    `source` is the fingerprint of that network; None: it was drawn.
    """

    settings: dict[str, Any]
    fingerprint: str
    source: str | None = None

    @staticmethod
    def of(config: Config, fingerprint: str) -> RunIdentity:
        """Take it from the settings, whose fields say which of them count.

        Raises:
            InputError: `transfer.source` holds no trained network.
        """
        return RunIdentity(config.identity(), fingerprint, fingerprint_source(config))


@dataclass(frozen=True)
class Layout:
    """How many devices train, and how many of them are in a node: this tells to which device a carried row belongs."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    workers: int
    node_devices: int

    @staticmethod
    def of(mesh: Mesh) -> Layout:
        """Take it from a mesh."""
        return Layout(mesh.size, mesh.shape[DEVICE_AXIS])

    def senders(self, parallel: ParallelConfig) -> int:
        """How many exchange compressed sums: nodes, or devices."""
        return self.workers // self.node_devices if parallel.hierarchical else self.workers


def save_checkpoint(
    folder: Path, state: TrainState, best: Network, standing: Standing, layout: Layout, identity: RunIdentity
) -> Path:
    """Publish a checkpoint, then remove all but the newest two.

    Args:
        folder: The run folder.
        state: The state, on the host, with the carried rows of all devices.
        best: The network that is kept.
        standing: How far the run has come.
        layout: The devices that train.
        identity: What must be the same for the run to go on.
    """
    facts = {"standing": asdict(standing), "layout": asdict(layout), "identity": asdict(identity)}
    place = folder / CHECKPOINTS / _folder_name(standing)
    if place.is_dir() and not (place / TENSOR_FACTS).exists():
        # What a damaged disk left of an earlier checkpoint.
        shutil.rmtree(place)
    for left in place.parent.glob(".step-*"):
        # Left by a writer that was killed; no other can be writing, as a folder has one writer.
        shutil.rmtree(left, ignore_errors=True)
    save_tree(place, _arrays(state, best), stamped(CHECKPOINT, facts))
    for old in find_checkpoints(folder)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def find_checkpoints(folder: Path) -> list[Path]:
    """The published checkpoints of a run folder, oldest first."""
    place = folder / CHECKPOINTS
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if re.fullmatch(r"step-\d{9}", path.name))


def load_newest_checkpoint(
    folder: Path, state: TrainState, best: Network, identity: RunIdentity
) -> tuple[TrainState, Network, Standing, Layout] | None:
    """Read the newest whole checkpoint: state, kept network, standing and layout; none where there is no checkpoint.

    A damaged one is named in a warning, and the one before it is read.

    Args:
        folder: The run folder.
        state: A state of the same shapes; the carried rows of the result are those of the checkpoint's devices.
        best: A network of the same shapes.
        identity: What the run must be.

    Raises:
        InputError: all are damaged, or the run has other settings or other data.
    """
    found = find_checkpoints(folder)
    problem: InputError | None = None
    for place in reversed(found):
        try:
            standing, layout = _read_place(place, identity)
            arrays = load_tree(place, _arrays(state, best), loose=CARRIED)
            if arrays[0].step != standing.step:
                raise InputError(f"its arrays are of step {arrays[0].step}, not {standing.step}", file=place)
        except InputError as error:
            if isinstance(error, OtherRunError | OtherFormatError):
                raise
            warnings.warn(f"skipping a damaged checkpoint: {error}", RuntimeWarning, stacklevel=2)
            problem = error
            continue
        state_arrays, best_arrays = arrays
        loaded = eqx.combine(state_arrays, eqx.filter(state, eqx.is_array, inverse=True))
        kept = eqx.combine(best_arrays, eqx.filter(best, eqx.is_array, inverse=True))
        return loaded, kept, standing, layout
    if problem is not None:
        raise _none_is_whole(folder, len(found), problem)
    return None


class OtherRunError(InputError):
    """A checkpoint of other settings or other data than those asked for."""


def check_resumable(folder: Path, identity: RunIdentity) -> None:
    """Check that a run can go on, before any of it is changed.

    Raises:
        OtherRunError: it began with other settings or other data.
        InputError: it has checkpoints, and all are damaged.
    """
    found, problem = find_checkpoints(folder), None
    for place in found:
        try:
            _read_place(place, identity)
            read_arrays(place)
        except (OtherRunError, OtherFormatError):
            raise
        except InputError as error:
            # If another one is whole, loading warns of this one and reads the one before.
            problem = error
        else:
            return
    if problem is not None:
        raise _none_is_whole(folder, len(found), problem)


def _none_is_whole(folder: Path, count: int, problem: InputError) -> InputError:
    return InputError(
        f"none of its {count} checkpoints is whole; the newest: {problem.problem}",
        file=folder,
        remedy="start again with --overwrite",
    )


def check_identity(place: Path, saved: Any, identity: RunIdentity) -> None:
    """Raise OtherRunError unless `saved` is the same run, and InputError where it describes no run."""
    now = asdict(identity)
    saved = saved if isinstance(saved, dict) else {}
    kept = saved.get("settings", {})
    if not (isinstance(kept, dict) and all(isinstance(values, dict) for values in kept.values())):
        raise InputError("does not say with which settings it was begun", file=place)
    if saved.get("fingerprint") != now["fingerprint"]:
        raise OtherRunError(
            "this run was trained on another dataset", file=place, remedy="give the same dataset, or another --out"
        )
    if saved.get("source") != now["source"]:
        began, asked = (
            "fresh weights" if one.get("source") is None else f"the network {one['source'][:12]}…"
            for one in (saved, now)
        )
        raise OtherRunError(
            f"this run was begun with {began}, not with {asked}",
            file=place,
            remedy="give the same network with --from, or choose another --out",
        )
    for section, values in now["settings"].items():
        for key, value in values.items():
            # A setting that did not exist when the run began had its default.
            old = kept.get(section, {}).get(key, _default(section, key))
            if old != value:
                raise OtherRunError(
                    f"this run was begun with {section}.{key} = {old}, not {value}",
                    file=place,
                    remedy="resume with the same settings, or choose another --out",
                )


def _default(section: str, key: str) -> Any:
    return Config().model_dump(mode="json")[section].get(key)


def _read_place(place: Path, identity: RunIdentity) -> tuple[Standing, Layout]:
    """What a checkpoint says beside its arrays, after a check that it is of this format and this run."""
    facts = check_stamp(read_facts(place), CHECKPOINT, place)
    check_identity(place, facts.get("identity"), identity)
    return _read_standing(place, facts)


def _folder_name(standing: Standing) -> str:
    return f"step-{standing.step:09d}"


def _read_standing(place: Path, facts: dict[str, Any]) -> tuple[Standing, Layout]:
    try:
        standing = TypeAdapter(Standing).validate_json(json.dumps(facts.get("standing")))
        layout = TypeAdapter(Layout).validate_json(json.dumps(facts.get("layout")))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"does not say how far the run has come ({where})", file=place / TENSOR_FACTS) from None
    if place.name != _folder_name(standing):
        raise InputError(f"says that it is step {standing.step}", file=place / TENSOR_FACTS)
    return standing, layout


def host_arrays(state: TrainState) -> TrainState:
    """The state on the host, with the rows of all devices; all processes must call it together."""
    arrays, static = eqx.partition(state, eqx.is_array)
    return eqx.combine(to_host(arrays), static)


def regroup_carried(
    state: TrainState, schedule: Schedule, before: Layout, now: Layout, parallel: ParallelConfig
) -> TrainState:
    """Deal the carried rows of a loaded state to the present devices.

    What the exchange had not sent yet is given up where it can't belong to the new senders: between one sender and
    several, and with other nodes where the sums inside nodes are exact.

    Args:
        state: The loaded state, on the host.
        schedule: That of the present devices.
        before: The devices of the checkpoint.
        now: The present devices.
        parallel: The settings of the exchange.

    Raises:
        InputError: the rows don't fit the devices.
    """
    is_other = before.workers != now.workers or (parallel.hierarchical and before != now)
    carried = state.carried
    if is_other:
        several = before.senders(parallel), now.senders(parallel)
        keeps = not parallel.hierarchical and min(several) > 1
        carried = schedule.regroup(carried, state.network, keeps_owed=keeps)
        if not keeps and several[0] > 1 and EXCHANGES[parallel.exchange].owes:
            warnings.warn(
                f"what the exchange of {before.workers} devices in nodes of {before.node_devices} had not sent yet is "
                f"given up: {now.workers} in nodes of {now.node_devices} can't go on with it",
                RuntimeWarning,
                stacklevel=2,
            )
    shapes, wanted = (
        [np.shape(leaf) for leaf in jax.tree.leaves(one)] for one in (carried, schedule.start(state.network).carried)
    )
    if shapes != wanted:
        raise InputError(
            f"a checkpoint carries arrays of {shapes}, and {now.workers} devices need {wanted}",
            remedy="start again with --overwrite",
        )
    return state.with_carried(carried)


def _arrays(state: TrainState, best: Network) -> tuple[Any, Any]:
    """The arrays of both, on the host."""
    trees = (eqx.filter(state, eqx.is_array), eqx.filter(best, eqx.is_array))
    return jax.tree.map(np.asarray, trees)
