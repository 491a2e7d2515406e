"""The stages as functions: each reads the folder that the one before published, and publishes its own."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebox.config import Config, EvaluationConfig, ParallelConfig, read_config, write_config
from ebox.errors import InputError
from ebox.publishing import check_absent, claim_folder, find_command, publish_file, read_json, write_json

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from ebox.datasets.folder import Dataset
    from ebox.training import LoadedModel, TrainingResult
    from ebox.training.asynchronous import WorkerPool

PathLike = str | os.PathLike[str]
Progress = Callable[[str, int, int], None]
OnEntry = Callable[[Mapping[str, Any], int], None]


@dataclass(frozen=True)
class EvaluationResult:
    """Where the evaluation stands, and the facts in it (docs/evaluation.md)."""

    path: Path
    facts: dict[str, Any]

    def metric(self, name: str, *, split: str = "test", track: int = 0) -> tuple[float, float, float]:
        """Value and ends of the 95 % interval of a metric, such as `auroc`."""
        entry = self.facts["tracks"][track]["splits"][split]["metrics"][name]
        return entry["value"], entry["low"], entry["high"]


def train(
    dataset: PathLike,
    out: PathLike,
    config: Config | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_entry: OnEntry | None = None,
    on_prepared: Callable[[], None] | None = None,
    command: Sequence[str] | None = None,
) -> TrainingResult:
    """Train a network on a dataset folder and publish it in a run folder.

    With `parallel.processes` or `parallel.cluster` it starts workers and looks after them; as a task of a cluster's
    job, or of a group that the environment describes, it trains together with the others, and the first of them writes.

    Args:
        dataset: A folder made by `build`.
        out: The run folder.
        config: The settings; none: the defaults.
        resume: Go on from the newest checkpoint in `out`; begin where there is none.
        overwrite: Begin again, removing what an earlier training left in `out`.
        on_entry: Called with every entry of the metrics and the number of steps in all.
        on_prepared: Called when the run folder holds nothing but this training.
        command: The command line to keep in the run folder; none: that of this process.

    Raises:
        InputError: a bad dataset, settings that don't fit it, absent devices, or a run folder in use.
        ResumableError: SIGTERM asked to stop; the training is saved, and `resume` goes on.
        WorkersFailedError: the workers failed more often than `parallel.max_restarts`.
    """
    from ebox.datasets.folder import open_dataset
    from ebox.launch import gradient_pool, parallel_of_server, train_in_group
    from ebox.parallel import describe_environment, find_devices, is_chief, join_group, make_mesh
    from ebox.parallel.processes import check_alike, is_member, leave_when_others_are_lost, wait_for_all
    from ebox.parallel.watching import HEARTBEAT_MORE_SECONDS
    from ebox.training import run_folder, save_model
    from ebox.training.checkpoints import RunIdentity, check_identity, check_resumable
    from ebox.training.loop import check_trainable
    from ebox.training.step import make_plan

    config = Config() if config is None else config
    folder, command = Path(out), find_command(command)
    # All that can be refused is refused before anything in the run folder is touched.
    data = open_dataset(Path(dataset), verify="full")
    check_trainable(data, config)
    identity = RunIdentity.of(config, data.fingerprint)
    if resume:
        check_resumable(folder, identity)
        if (folder / run_folder.TRAINING).exists():
            check_identity(folder, read_json(folder / run_folder.TRAINING).get("identity"), identity)
    if config.parallel.starts_workers and not is_member():
        _make_run_folder(folder)
        return train_in_group(
            Path(dataset), folder, config, resume=resume, overwrite=overwrite, on_entry=on_entry, command=command
        )
    if not is_member():
        _check_clearable(folder, resume=resume, overwrite=overwrite)
    join_group(heartbeat_seconds=config.parallel.stall_seconds + HEARTBEAT_MORE_SECONDS)
    with leave_when_others_are_lost(), gradient_pool(Path(dataset), data.fingerprint, config) as pool:
        parallel = config.parallel if pool is None else parallel_of_server(config.parallel)
        devices = find_devices(parallel)
        mesh = make_mesh(devices, parallel.node_devices)
        make_plan(config, mesh)  # refuses what these devices can't do
        environment = describe_environment(devices, command)
        check_alike(
            {"ebox": environment["ebox"], "versions": environment["packages"], **_flat(config, data.fingerprint)}
        )
        if is_chief():
            _make_run_folder(folder)
        with claim_folder(folder) if is_chief() else nullcontext():
            if is_chief():
                _clear_for_training(folder, resume=resume, overwrite=overwrite)
                if on_prepared is not None:
                    on_prepared()
                # First, since it marks the folder as a run folder.
                write_json(folder / run_folder.ENVIRONMENT, environment)
                write_config(config, folder / run_folder.CONFIG)
                write_json(folder / run_folder.DATASET, {"path": str(Path(dataset).resolve()), **data.manifest})
                write_json(folder / run_folder.QUALITY, data.quality)
            wait_for_all("prepared")
            result = _fit(data, config, folder, mesh, pool, resume=resume, on_entry=on_entry)
            if is_chief():
                save_model(folder, result.network, config, data.tracks, data.length_bp)
                write_json(folder / run_folder.TRAINING, {**result.facts(), "identity": asdict(identity)})
            wait_for_all("trained")
    return result


def _fit(
    data: Dataset,
    config: Config,
    folder: Path,
    mesh: Mesh,
    pool: WorkerPool | None,
    *,
    resume: bool,
    on_entry: OnEntry | None,
) -> TrainingResult:
    """Train on the mesh."""
    import jax

    from ebox.evaluation.validation import ValidationSplit
    from ebox.parallel import is_chief, make_mesh
    from ebox.parallel.watching import Watch
    from ebox.training import fit

    own = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    validation = ValidationSplit(data, config.evaluation, make_mesh(own))
    watch = Watch(config.parallel.stall_seconds) if jax.process_count() > 1 else None
    return fit(
        data,
        config,
        folder,
        mesh,
        validation.measure,
        calibrate=validation.calibrate if config.train.calibrate else None,
        resume=resume,
        on_entry=on_entry if is_chief() else None,
        watch=watch,
        pool=pool,
    )


def _flat(config: Config, fingerprint: str) -> dict[str, Any]:
    """What must be alike in all processes of a group, by name: any setting may decide what they send each other."""
    sections = config.model_dump(mode="json")
    settings = {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}
    return {"the dataset's fingerprint": fingerprint, **settings}


def evaluate(
    run: PathLike,
    dataset: PathLike | None = None,
    config: EvaluationConfig | None = None,
    *,
    parallel: ParallelConfig | None = None,
    motif_files: Sequence[PathLike] = (),
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
) -> EvaluationResult:
    """Measure a trained network on the validation and test splits, beside the baselines.

    Args:
        run: A run folder with a trained model.
        dataset: The dataset folder; none: the one that it was trained on. The evaluation on another one is kept
            beside that of the run, under the name of its folder. Its threshold is chosen on that dataset's own
            validation split, and how many of its test sequences trained this network is counted.
        config: The settings; none: those of the run.
        parallel: The devices; none: whatever this machine has.
        motif_files: MEME or JASPAR files whose matrices join the best-PWM baseline.
        progress: Called with a phrase, the number done, and the number in all.
        command: The command line to keep; none: that of this process, where it is one of ebox.

    Raises:
        InputError: no model, no dataset, or a dataset of another length or other tracks.
    """
    from ebox.evaluation.predict import predict as predict_logits
    from ebox.evaluation.protocol import evaluate as measure
    from ebox.parallel import find_local_devices, make_mesh
    from ebox.training import load_model, run_folder

    folder = Path(run)
    model = load_model(folder)
    config = read_config(folder / run_folder.CONFIG).evaluation if config is None else config
    data, is_own = open_dataset_of(folder, dataset)
    _check_fits(data, model.length_bp, model.tracks)
    held_out = slice(data.rows("validation").start, data.rows("test").stop)
    logits = np.full((len(data), len(model.tracks)), np.nan, np.float32)
    logits[held_out] = predict_logits(
        model.network,
        data.codes[held_out],
        both_strands=config.both_strands,
        batch_size=config.batch_size,
        mesh=make_mesh(find_local_devices(ParallelConfig() if parallel is None else parallel)),
        progress=progress,
    )
    ceiling = _read_ceiling(folder / run_folder.SIMULATION) if is_own else None
    facts = measure(data, logits, config, motif_files=motif_files, ceiling=ceiling, progress=progress)
    facts["command"] = find_command(command)
    facts["seen_in_training"] = None if is_own else _count_seen(folder, data)
    suffix = "" if is_own else f"-{data.path.resolve().name}"
    _write_predictions(_with_suffix(folder / run_folder.PREDICTIONS, suffix), data, logits, held_out)
    if is_own:
        _write_filters(folder / run_folder.FILTERS, model, data, progress)
    path = _with_suffix(folder / run_folder.EVALUATION, suffix)
    write_json(path, facts)
    return EvaluationResult(path, facts)


def _count_seen(folder: Path, data: Dataset) -> dict[str, int] | None:
    """How many test sequences of another dataset trained this network; None where its own dataset is gone."""
    from ebox.datasets.cleaning import find_repeats

    try:
        own, _ = open_dataset_of(folder, None)
    except InputError:
        return None
    trained, test = own.codes[own.rows("train")], data.codes[data.rows("test")]
    repeats = find_repeats(np.concatenate([trained, test]))
    seen = (repeats.row >= len(trained)) & (repeats.first < len(trained))
    return {"num_examples": int(seen.sum()), "of": len(test)}


def report(run: PathLike, out: PathLike | None = None) -> Path:
    """Write the self-contained HTML report of an evaluated run, and the same facts as JSON beside it."""
    from ebox.reporting.report import write_report

    return write_report(Path(run), None if out is None else Path(out))


def _check_no_other(folder: Path) -> None:
    """Raise InputError where a run folder is to be, and something else is."""
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file, not a folder", file=folder, remedy="choose another --out")
    if (folder / "manifest.json").exists():
        raise InputError("is a dataset folder", file=folder, remedy="choose another --out for the run")


def _make_run_folder(folder: Path) -> None:
    """Make the run folder where it is not there, and see that it can be written."""
    _check_no_other(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"can't be written: {error.strerror}", file=folder, remedy="choose another --out") from None


def _check_clearable(folder: Path, *, resume: bool, overwrite: bool) -> bool:
    """Whether an earlier training is to be cleared away; raise InputError where it may not be."""
    from ebox.training import run_folder

    _check_no_other(folder)
    present = [name for name in run_folder.OWN_FILES if (folder / name).exists()]
    if present and not (folder / run_folder.ENVIRONMENT).is_file():
        raise InputError(
            f"holds {present[0]}, which is not of a training run, and would be replaced",
            file=folder,
            remedy="choose another --out",
        )
    if not present or resume:
        return False
    check_absent(folder, overwrite=overwrite)
    return True


def _clear_for_training(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Keep the run folder for a resumed run, or clear the files of an earlier training; never those of others."""
    if _check_clearable(folder, resume=resume, overwrite=overwrite):
        clear_run(folder)


def clear_run(folder: Path) -> None:
    """Remove what training, evaluation and report left in a run folder; the mark of a run folder goes last."""
    from ebox.explanation.files import EXPLANATION, WORK
    from ebox.training import run_folder

    for name in (EXPLANATION, WORK, *run_folder.OWN_FILES):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}{suffix}{path.suffix}")


def open_dataset_of(folder: Path, dataset: PathLike | None) -> tuple[Dataset, bool]:
    """Open the dataset given, or the one that the run was trained on; say whether it is the latter, unchanged."""
    from ebox.datasets.folder import open_dataset
    from ebox.training import run_folder

    facts = read_json(folder / run_folder.DATASET)
    if not isinstance(facts, dict) or not {"path", "fingerprint"} <= set(facts):
        raise InputError("does not name a dataset", file=folder / run_folder.DATASET, remedy="train again")
    if dataset is not None:
        data = open_dataset(Path(dataset), verify="full")
        return data, data.fingerprint == facts["fingerprint"]
    beside = folder / run_folder.DATASET_FOLDER
    place = beside if beside.is_dir() else Path(facts["path"])
    if not place.is_dir():
        raise InputError("the dataset of this run is gone", file=place, remedy="give its folder with --data")
    data = open_dataset(place, verify="full")
    if data.fingerprint != facts["fingerprint"]:
        raise InputError(
            "has changed since this run was trained on it", file=place, remedy="give the right folder with --data"
        )
    return data, True


def _check_fits(data: Dataset, length_bp: int, tracks: tuple[str, ...]) -> None:
    if data.length_bp != length_bp:
        raise InputError(
            f"holds sequences of {data.length_bp} bp; the model was trained on {length_bp} bp", file=data.path
        )
    if data.tracks != tracks:
        raise InputError(
            f"has the tracks {', '.join(data.tracks)}; the model gives {', '.join(tracks)}", file=data.path
        )


def _write_predictions(path: Path, data: Dataset, logits: np.ndarray, rows: slice) -> None:
    """Publish the held-out predictions as a table."""
    import polars as pl

    table = data.examples[rows.start : rows.stop].select("name", "kind", "split", "chrom", "start", "end")
    columns = []
    for number, track in enumerate(data.tracks):
        values = logits[rows, number].astype(np.float64)
        columns += [
            pl.Series(f"target_{track}", np.asarray(data.targets[rows, number])),
            pl.Series(f"logit_{track}", values),
            pl.Series(f"probability_{track}", 1.0 / (1.0 + np.exp(-values))),
        ]
    # Through memory, so that a full disk is an error of ours and not one of the library's.
    buffer = io.BytesIO()
    table.with_columns(columns).write_parquet(buffer)
    with publish_file(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _read_ceiling(path: Path) -> Mapping[str, Any] | None:
    """The best possible result, where the sequences were simulated."""
    return read_json(path).get("ceiling") if path.exists() else None


def _write_filters(path: Path, model: LoadedModel, data: Dataset, progress: Progress | None) -> None:
    """Publish what the first layer looks for, read from validation examples."""
    from ebox.explanation import filter_motifs, filters_to_json
    from ebox.models import first_layer_filters

    rows = data.rows("validation")
    positive = (np.asarray(data.targets[rows]) == 1).any(axis=1)
    motifs = filter_motifs(
        first_layer_filters(model.network),
        np.asarray(data.codes[rows]),
        positive,
        strands=model.config.read_strands,
        progress=progress,
    )
    write_json(path, filters_to_json(motifs, split="validation"))
