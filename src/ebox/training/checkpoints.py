"""Checkpoints: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import re
import shutil
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ebox.config import RESULT_SETTINGS, Config
from ebox.errors import InputError
from ebox.models.network import Network
from ebox.parallel.processes import to_host
from ebox.training.run_folder import CHECKPOINTS
from ebox.training.schedules import Schedule
from ebox.training.state import TrainState
from ebox.training.tensors import FACTS, load_tree, read_facts, save_tree

CHECKPOINT_FORMAT_VERSION = 1
KEPT_CHECKPOINTS = 2
# How the names of the arrays with a row a device begin.
CARRIED = "[0].carried"


@dataclass(frozen=True)
class Standing:
    """Where a run stands, beside its arrays."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    kept_step: int = 0
    best_value: float | None = None
    validations_since_best: int = 0


@dataclass(frozen=True)
class RunIdentity:
    """What must be the same for a run to go on: settings of network and training, and the data."""

    settings: dict[str, Any]
    fingerprint: str

    @staticmethod
    def of(config: Config, fingerprint: str) -> RunIdentity:
        """Take it from the settings; what changes no step doesn't count: saving, logging, calibration at the end."""
        free = {"checkpoint_every_seconds", "checkpoint_every_steps", "log_every_steps", "calibrate"}
        settings = {
            "model": config.model.model_dump(mode="json"),
            "train": config.train.model_dump(mode="json"),
        }
        settings["train"] = {key: value for key, value in settings["train"].items() if key not in free}
        parallel = config.parallel.model_dump(mode="json")
        settings["parallel"] = {key: parallel[key] for key in RESULT_SETTINGS}
        return RunIdentity(settings, fingerprint)


def save_checkpoint(folder: Path, state: TrainState, best: Network, standing: Standing, identity: RunIdentity) -> Path:
    """Publish a checkpoint of a state on the host (see `host_arrays`), then remove all but the newest two."""
    facts = {
        "format_version": CHECKPOINT_FORMAT_VERSION,
        "standing": asdict(standing),
        "identity": asdict(identity),
    }
    place = folder / CHECKPOINTS / f"step-{standing.step:09d}"
    if place.is_dir() and not (place / FACTS).exists():
        # What a damaged disk left of an earlier one.
        shutil.rmtree(place)
    save_tree(place, _arrays(state, best), facts)
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
) -> tuple[TrainState, Network, Standing] | None:
    """Read the newest checkpoint that is whole, into the shapes of `state` and `best`; none where there is none.

    What is carried comes with as many rows as there were devices. A damaged one is named in a warning and the one
    before it is taken.

    Raises:
        InputError: all are damaged, or the run was of other settings or other data.
    """
    found = find_checkpoints(folder)
    problem: InputError | None = None
    for place in reversed(found):
        try:
            facts = read_facts(place)
            _check_version(place, facts)
            check_identity(place, facts.get("identity"), identity)
            standing = _read_standing(place, facts)
            arrays = load_tree(place, _arrays(state, best), loose=CARRIED)
        except InputError as error:
            if isinstance(error, OtherRunError):
                raise
            warnings.warn(f"skipping a damaged checkpoint: {error}", RuntimeWarning, stacklevel=2)
            problem = error
            continue
        state_arrays, best_arrays = arrays
        loaded = eqx.combine(state_arrays, eqx.filter(state, eqx.is_array, inverse=True))
        kept = eqx.combine(best_arrays, eqx.filter(best, eqx.is_array, inverse=True))
        return loaded, kept, standing
    if problem is not None:
        raise InputError(
            f"none of its {len(found)} checkpoints is whole; the newest: {problem.problem}",
            file=folder,
            remedy="start again with --overwrite",
        )
    return None


class OtherRunError(InputError):
    """A checkpoint of other settings or other data than those asked for."""


def check_resumable(folder: Path, identity: RunIdentity) -> None:
    """Raise OtherRunError when what `folder` holds was begun with other settings or other data."""
    for place in find_checkpoints(folder):
        try:
            saved = read_facts(place).get("identity")
        except InputError:
            # Damaged: loading says so, and takes the one before.
            continue
        check_identity(place, saved, identity)


def check_identity(place: Path, saved: Any, identity: RunIdentity) -> None:
    """Raise OtherRunError unless `saved` is the same run."""
    now = asdict(identity)
    saved = saved if isinstance(saved, dict) else {}
    if saved.get("fingerprint") != now["fingerprint"]:
        raise OtherRunError(
            "this run was trained on another dataset", file=place, remedy="give the same dataset, or another --out"
        )
    for section, values in now["settings"].items():
        for key, value in values.items():
            # A setting that is younger than the run was at its default then.
            old = saved.get("settings", {}).get(section, {}).get(key, _default(section, key))
            if old != value:
                raise OtherRunError(
                    f"this run was begun with {section}.{key} = {old}, not {value}",
                    file=place,
                    remedy="resume with the same settings, or choose another --out",
                )


def _default(section: str, key: str) -> Any:
    return Config().model_dump(mode="json")[section].get(key)


def _check_version(place: Path, facts: dict[str, Any]) -> None:
    if facts.get("format_version") != CHECKPOINT_FORMAT_VERSION:
        raise OtherRunError(
            f"has checkpoint format {facts.get('format_version')}; this ebox reads {CHECKPOINT_FORMAT_VERSION}",
            file=place,
            remedy="resume with the ebox that wrote it, or begin again with --overwrite",
        )


def _read_standing(place: Path, facts: dict[str, Any]) -> Standing:
    try:
        return Standing(**facts["standing"])
    except (KeyError, TypeError):
        raise InputError("does not say where the run stands", file=place / FACTS) from None


def host_arrays(state: TrainState) -> TrainState:
    """The state on the host, with the rows of all devices; all processes must call it together."""
    arrays, static = eqx.partition(state, eqx.is_array)
    return eqx.combine(to_host(arrays), static)


def regroup_carried(state: TrainState, schedule: Schedule, num_devices: int) -> TrainState:
    """Deal what a loaded state carries out over the devices that there are now.

    Where the exchange is another for so many devices (one device compresses nothing), what was owed is given up.
    """
    fresh = schedule.start(state.network).carried
    rows, wanted = jax.tree.leaves(state.carried), jax.tree.leaves(fresh)
    if len(rows) != len(wanted):
        warnings.warn(
            f"what the exchange had not sent yet is given up: {num_devices} devices exchange in another way",
            RuntimeWarning,
            stacklevel=2,
        )
        return state.with_carried(fresh)
    if not wanted or [np.shape(row) for row in rows] == [np.shape(row) for row in wanted]:
        return state
    if len(rows[0]) != num_devices:
        return state.with_carried(schedule.regroup(state.carried, state.network))
    warnings.warn("what the exchange had not sent yet is given up: the nodes are others", RuntimeWarning, stacklevel=2)
    return state.with_carried(fresh)


def _arrays(state: TrainState, best: Network) -> tuple[Any, Any]:
    """The arrays of both, on the host."""
    trees = (eqx.filter(state, eqx.is_array), eqx.filter(best, eqx.is_array))
    return jax.tree.map(np.asarray, trees)
