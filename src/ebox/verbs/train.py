"""Train a network on a dataset folder, alone or with others, and publish it in a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
from ebox.progress import OnEntry, PathLike, Progress, quiet
from ebox.storage import run_folder
from ebox.storage.publishing import check_absent, claim_folder, find_command, read_json, write_json
from ebox.storage.stamps import TRANSFER, write_stamped
from ebox.storage.targets import check_folder_target
from ebox.verbs.verb import Verb
from ebox.workers.contract import TrainTask

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from ebox.datasets.folder import Dataset
    from ebox.evaluation.validation import ValidationSplit
    from ebox.settings.reading import Config
    from ebox.training.asynchronous import WorkerPool
    from ebox.training.checkpoints import RunIdentity
    from ebox.training.loop import TrainingResult


VERB = Verb(
    "train",
    arguments={"dataset": "DATASET"},
    settings=("train", "transfer", "parallel", "ensemble"),
    hidden=("is_checked",),
)


def train(
    dataset: PathLike,
    out: PathLike,
    config: Config | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_entry: OnEntry = quiet,
    on_prepared: Callable[[], None] = quiet,
    progress: Progress = quiet,
    command: Sequence[str] | None = None,
    is_checked: bool = False,
) -> TrainingResult:
    """Train a network on a dataset folder and publish it in a run folder.

    With --from RUN it begins with the network of a finished run instead of fresh weights (docs/transfer.md).

    With `parallel.processes` or `parallel.cluster` it starts workers and supervises them. As a task of a cluster's job,
    or of a group that the environment describes, it trains together with the others, and the first of them writes.

    With `ensemble.members` it trains several networks, whose mean logits are the model, and with `ensemble.distil` one
    more of them, which is then the model.

    Args:
        dataset: Dataset folder made by `ebox build`.
        out: Folder to write.
        config: The settings; none: the defaults.
        resume: Go on where an interrupted run stopped; begin where there is none.
        overwrite: Replace an earlier result in --out.
        on_entry: Called with every entry of the metrics and the number of steps in all.
        on_prepared: Called when the run folder no longer holds an earlier training.
        progress: Called with a phrase, the number done, and the number in all.
        command: The command line to keep in the run folder; none: that of this process.
        is_checked: Whether the supervisor of this worker has checked what a network to begin with has seen.

    Raises:
        InputError: a bad dataset, settings that don't fit it, absent devices, a run folder in use, or a network to
            begin with that does not fit, or has seen test examples.
        ResumableError: SIGTERM asked to stop; the training is saved, and `resume` goes on.
        WorkersFailedError: the workers failed more often than `parallel.max_restarts`.
    """
    from ebox.datasets.folder import open_dataset
    from ebox.mesh.devices import find_devices, make_mesh
    from ebox.mesh.hosts import check_alike, is_chief, leave_when_others_are_lost, wait_for_all
    from ebox.models.ensemble import split_outputs
    from ebox.models.files import save_model
    from ebox.models.network import Network
    from ebox.settings.reading import Config, write_config
    from ebox.training.checkpoints import RunIdentity, check_identity, check_resumable
    from ebox.training.group import gradient_pool, parallel_of_server, train_in_group
    from ebox.training.step import make_plan
    from ebox.tuning.ensembles import check_members_resumable
    from ebox.verbs.transferred import describe_transfer, take_settings
    from ebox.workers.machine import describe_environment
    from ebox.workers.processes import is_member, join_group
    from ebox.workers.watch import HEARTBEAT_MORE_SECONDS

    config = Config() if config is None else config
    folder, command = Path(out), find_command(command)
    # All checks come before the first change in the run folder.
    config = take_settings(config, folder)
    data = open_dataset(Path(dataset), verify="full")
    config = fit_training(config, data)
    identity = RunIdentity.of(config, data.fingerprint)
    if resume:
        check_resumable(folder, identity)
        check_members_resumable(folder, config, data.fingerprint)
        if (folder / run_folder.TRAINING).exists():
            check_identity(folder, read_json(folder / run_folder.TRAINING).get("identity"), identity)
    if not is_member():
        _check_clearable(folder, resume=resume, overwrite=overwrite)
    taken = None if is_checked else describe_transfer(config, data, folder if resume else None, progress, out=folder)

    def write_transfer() -> None:
        if taken is not None:
            write_stamped(folder / run_folder.TRANSFER, TRANSFER, taken)

    if config.parallel.starts_workers and not is_member():
        _make_run_folder(folder)
        return train_in_group(
            Path(dataset),
            folder,
            config,
            resume=resume,
            overwrite=overwrite,
            on_entry=on_entry,
            command=command,
            worker_arguments=worker_arguments,
            on_prepared=write_transfer,
        )
    join_group(heartbeat_seconds=config.parallel.stall_seconds + HEARTBEAT_MORE_SECONDS)
    with leave_when_others_are_lost(), gradient_pool(Path(dataset), data.fingerprint, config) as pool:
        parallel = config.parallel if pool is None else parallel_of_server(config.parallel)
        devices = find_devices(parallel)
        mesh = make_mesh(devices, parallel.node_devices)
        make_plan(config, mesh)  # refuses what these devices can't do
        environment = describe_environment(devices, command)
        check_alike({"ebox": environment["ebox"], "versions": environment["packages"], **_flat(config, identity)})
        if is_chief():
            _make_run_folder(folder)
        with claim_folder(folder) if is_chief() else nullcontext():
            if is_chief():
                _clear_for_training(folder, resume=resume, overwrite=overwrite)
                on_prepared()
                # This file marks the folder as a run folder, so it is written first.
                write_json(folder / run_folder.ENVIRONMENT, environment)
                write_config(config, folder / run_folder.CONFIG)
                write_json(folder / run_folder.DATASET, {"path": str(Path(dataset).resolve()), **data.manifest})
                write_json(folder / run_folder.QUALITY, data.quality)
                write_transfer()
            wait_for_all("prepared")
            result = _fit(data, config, folder, mesh, pool, resume=resume, on_entry=on_entry)
            if is_chief():
                knots = _list_knots(result)
                save_model(folder, result.network, config, data.tracks, data.length_bp, knots)
                if config.ensemble.distil and isinstance(result.network, Network):
                    result = replace(result, network=split_outputs(result.network, len(data.tracks))[0])
                write_json(folder / run_folder.TRAINING, {**result.facts(), "identity": asdict(identity)})
            wait_for_all("trained")
    return result


def fit_training(config: Config, data: Dataset) -> Config:
    """The settings of a training on a dataset, after all checks of both that need no device and no run folder.

    Args:
        config: The settings of `take_settings`.
        data: An opened dataset.

    Raises:
        InputError: settings and data don't go together.
    """
    from ebox.training.loop import check_trainable
    from ebox.tuning.ensembles import check_ensemble
    from ebox.verbs.transferred import fit_settings

    config = fit_settings(config, data)
    check_trainable(data, config)
    check_ensemble(data, config)
    return config


def worker_arguments(task: TrainTask) -> list[str]:
    """The arguments to `python` that start a worker with a task."""
    return ["-m", "ebox.verbs.train_worker", task.write()]


def _fit(
    data: Dataset, config: Config, folder: Path, mesh: Mesh, pool: WorkerPool | None, *, resume: bool, on_entry: OnEntry
) -> TrainingResult:
    """Train on the mesh."""
    import jax

    from ebox.evaluation.validation import ValidationSplit
    from ebox.mesh.devices import make_mesh
    from ebox.mesh.hosts import is_chief
    from ebox.training.loop import fit
    from ebox.workers.watch import Watch

    own = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    validation = ValidationSplit(data, config.evaluation, make_mesh(own))
    if config.ensemble.members is not None:
        return _fit_ensemble(data, config, folder, mesh, validation, resume=resume, on_entry=on_entry)
    return fit(
        data,
        config,
        folder,
        mesh,
        validation.measure,
        calibrate=partial(validation.calibrate, method=config.train.calibrate_by) if config.train.calibrate else None,
        resume=resume,
        on_entry=on_entry if is_chief() else quiet,
        watch=Watch(config.parallel.stall_seconds if jax.process_count() > 1 else None),
        pool=pool,
    )


def _fit_ensemble(
    data: Dataset,
    config: Config,
    folder: Path,
    mesh: Mesh,
    validation: ValidationSplit,
    *,
    resume: bool,
    on_entry: OnEntry,
) -> TrainingResult:
    """Train the members on the mesh, and distil them where that is asked for."""
    from ebox.models.ensemble import Ensemble
    from ebox.models.files import save_model
    from ebox.tuning.distilling import distil
    from ebox.tuning.ensembles import train_ensemble

    trained = train_ensemble(data, config, folder, mesh, validation, resume=resume, on_entry=on_entry)
    if not config.ensemble.distil:
        return trained
    # Only what is saved: what the network learns depends on no setting of the calibration.
    saved = trained
    assert isinstance(trained.network, Ensemble)
    if config.train.calibrate:
        network, calibration = validation.calibrate(trained.network, config.train.calibrate_by)
        saved = replace(trained, network=network, calibration=calibration)
    knots = _list_knots(saved)
    save_model(folder / run_folder.MEMBERS, saved.network, config, data.tracks, data.length_bp, knots)
    return distil(data, config, folder, mesh, validation, trained, resume=resume, on_entry=on_entry)


def _list_knots(result: TrainingResult) -> list[dict[str, Any] | None]:
    """For each track the knots of the map that calibrates its logits; None: it needs none."""
    return [entry["knots"] for entry in result.calibration]


def _flat(config: Config, identity: RunIdentity) -> dict[str, Any]:
    """What must be equal in all processes of a group, by name: every setting may change what they send each other."""
    from ebox.training.group import SOURCE

    sections = config.model_dump(mode="json")
    settings = {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}
    return {"the dataset's fingerprint": identity.fingerprint, SOURCE: identity.source, **settings}


def _check_no_other(folder: Path) -> None:
    """Raise InputError where `folder` is a file or a dataset folder."""
    from ebox.datasets.folder import MANIFEST

    check_folder_target(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file, not a folder", file=folder, remedy="choose another --out")
    if (folder / MANIFEST).exists():
        raise InputError("is a dataset folder", file=folder, remedy="choose another --out for the run")


def _make_run_folder(folder: Path) -> None:
    """Make the run folder if it does not exist, and raise InputError where it can't be written."""
    _check_no_other(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"can't be written: {error.strerror}", file=folder, remedy="choose another --out") from None


def _check_clearable(folder: Path, *, resume: bool, overwrite: bool) -> bool:
    """Whether an earlier training must be removed; raise InputError where that is not allowed."""
    _check_no_other(folder)
    present = [name for name in run_folder.OWN_FILES if (folder / name).exists()]
    if present and not (folder / run_folder.ENVIRONMENT).is_file():
        raise InputError(
            f"holds {present[0]}, which no training wrote and this one would replace",
            file=folder,
            remedy="choose another --out",
        )
    if not present or resume:
        return False
    check_absent(folder, overwrite=overwrite)
    return True


def _clear_for_training(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Keep the files of a run that is resumed, or remove those of an earlier training; leave all other files."""
    if _check_clearable(folder, resume=resume, overwrite=overwrite):
        run_folder.clear_run(folder)


def describe(result: TrainingResult) -> str:
    """How a training went, what its workers sent each other, and the path of the model."""
    from ebox.reporting.languages import find_language
    from ebox.verbs.transferred import count_seen_by_source

    lines = [
        f"trained {result.steps} steps in {result.seconds:.0f} s ({result.sequences_per_second:,.0f} sequences/s), "
        f"kept step {result.best_step}"
    ]
    if result.ensemble:
        lines += _describe_ensemble(result.ensemble)
    sent = result.communication
    if sent.get("workers", 1) > 1:
        lines.append(f"workers: {find_language().say({'staleness': None, **sent}, 'workers')}")
    seen = count_seen_by_source(result.folder)
    if seen is not None:
        lines.append(f"transfer: {find_language().say(seen, 'seen_by_source')}")
    return "\n".join([*lines, f"model: {result.folder / run_folder.MODEL}"])


def _describe_ensemble(facts: Mapping[str, Any]) -> list[str]:
    """How the members were trained, and what was made of them."""
    members = facts["members"]
    seeds = f"seeds {members[0]['seed']} to {members[-1]['seed']}"
    way = "side by side" if facts["side_by_side"] else "one after another, which is fastest on processors"
    lines = [f"ensemble: {len(members)} members ({seeds}), trained {way}"]
    if facts["distilled"]:
        lines.append(f"  distilled into one network; the members took {facts['seconds']:.0f} s before that")
    return lines
