"""The main job: the chain of the stages, from sequences to the report; an interrupted run can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
from ebox.progress import OnEntry, OnStage, OnText, PathLike, Progress, quiet
from ebox.storage.publishing import claim_folder, read_json, write_json
from ebox.storage.run_folder import REQUEST, SEEDS, clear_run, read_request
from ebox.storage.stamps import SIMULATION, read_stamped
from ebox.verbs.build import build
from ebox.verbs.build import describe as describe_dataset
from ebox.verbs.evaluate import EvaluationResult, describe_metrics, evaluate
from ebox.verbs.report import report
from ebox.verbs.train import fit_training, train
from ebox.verbs.transferred import describe_transfer, fit_settings, take_settings
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.datasets.folder import Dataset
    from ebox.datasets.sources import DatasetSources
    from ebox.settings.reading import Config
    from ebox.training.loop import TrainingResult

_EXAMPLES = """Examples, one for each way to begin:
  ebox run --positives bound.fa --negatives unbound.fa --out runs/tal1
  ebox run --peaks peaks.bed --genome hg38.fa --out runs/tal1
  ebox run --positives bound.fa --out runs/tal1
The last one makes its negatives by shuffling. Given splits: --train, --validation and --test take tables with
sequence and label, or FASTA of positives, with --train-negatives, --validation-negatives and --test-negatives.
"""
VERB = Verb(
    "run",
    settings=("data", "train", "transfer", "parallel", "ensemble", "evaluation.prevalence", "evaluation.target_fdr"),
    hidden=("simulation",),
    epilog=_EXAMPLES,
)


@dataclass(frozen=True)
class RunResult:
    """What the main job made."""

    folder: Path
    report: Path
    training: TrainingResult | None
    evaluation: EvaluationResult


def run(
    out: PathLike,
    sources: DatasetSources,
    config: Config | None = None,
    *,
    seeds: int | None = None,
    simulation: PathLike | None = None,
    motifs: Sequence[PathLike] = (),
    resume: bool = False,
    overwrite: bool = False,
    on_stage: OnStage = quiet,
    on_entry: OnEntry = quiet,
    on_text: OnText = quiet,
    progress: Progress = quiet,
    command: Sequence[str] | None = None,
) -> RunResult:
    """From sequences or peaks to a measured detector and its report: build, train, evaluate, report.

    Args:
        out: Folder to write; the dataset goes into its folder `dataset`.
        sources: Where the examples come from.
        config: The settings; none: the defaults.
        seeds: How many networks to train on the dataset, with `train.seed` (--seed) and the numbers after it. The
            first is the run itself; the report gives the spread of all. none: one, or with --resume as many as before.
        simulation: The `simulation.json` of simulated sequences, for the best possible result in the report.
        motifs: MEME, JASPAR, HOMER or HOCOMOCO file for the baselines on motifs, beside all that are known. Other
            motifs alone: --set evaluation.motifs=['MA0139.2'].
        resume: Go on where an interrupted run stopped; stages that are done are kept.
        overwrite: Replace an earlier result in --out.
        on_stage: Called with the name of each stage as it begins.
        on_entry: Called with every entry of the training metrics and the number of steps in all.
        on_text: Called with what is said of the dataset: counts, what was dropped and why, warnings.
        progress: Called with a phrase, the number done, and the number in all.
        command: The command line to keep; none: that of this process.

    Raises:
        InputError: input or settings that a stage can't work with.
    """
    from ebox.datasets.folder import is_dataset
    from ebox.settings.reading import Config
    from ebox.storage import run_folder
    from ebox.tuning.ensembles import with_seed

    config = Config() if config is None else config
    folder = Path(out)
    chosen = _choose_seeds(folder, config, seeds, resume=resume)
    _check_early(sources, config, motifs, folder)
    dataset = folder / run_folder.DATASET_FOLDER
    simulation = find_simulation(sources, config) if simulation is None else simulation
    # Claimed stage by stage, since the training claims it itself, and its workers are other processes.
    with claim_folder(folder):
        _check_request(folder, sources, config, resume=resume)
        if not (resume and is_dataset(dataset)):
            on_stage("build")
            again = overwrite or resume
            with _request_kept(folder, _with_seeds(_request(sources, config), chosen)):
                made = build(
                    dataset,
                    sources,
                    config,
                    overwrite=again,
                    progress=progress,
                    command=command,
                    on_made=lambda new: _check_made(new, config, folder, progress),
                )
            on_text(describe_dataset(made))
            # Only now: if the build fails, or nothing can be trained on what it made, the earlier run is still whole.
            if overwrite and (folder / run_folder.ENVIRONMENT).is_file():
                clear_run(folder)
        if simulation is not None:
            write_json(folder / run_folder.SIMULATION, read_stamped(simulation, SIMULATION))
        elif not resume:
            # That of an earlier run would lend its best possible result to these sequences.
            (folder / run_folder.SIMULATION).unlink(missing_ok=True)

    def train_seed(number: int) -> TrainingResult | None:
        """Train the network of a seed, unless a resumed run has it."""
        place, own = _find_place(folder, chosen, number), with_seed(config, chosen[number])
        if resume and (place / run_folder.TRAINING).exists():
            _check_trained(place, dataset, own)
            return None
        many = len(chosen)
        on_stage("train" if many == 1 else f"train, seed {number + 1} of {many}")
        tell = progress if many > 1 else quiet
        tell("training seeds", number, many)
        result = train(
            dataset,
            place,
            own,
            resume=resume,
            overwrite=overwrite,
            on_entry=on_entry,
            progress=progress,
            command=command,
        )
        tell("training seeds", number + 1, many)
        return result

    training = train_seed(0)
    with claim_folder(folder):
        _keep_seeds(folder, _request(sources, config), chosen)
        for number in range(1, len(chosen)):
            train_seed(number)
        on_stage("evaluate")
        evaluation = evaluate(folder, config=config, motifs=motifs, progress=progress, command=command)
        on_stage("report")
        return RunResult(folder, report(folder), training, evaluation)


def _request(sources: DatasetSources, config: Config) -> dict[str, Any]:
    """What the dataset is made from: the settings, and each path with its size and time of change."""

    def fact(path: Path) -> list[Any]:
        stat = path.stat() if path.exists() else None
        return [str(path.resolve()), None if stat is None else stat.st_size, None if stat is None else stat.st_mtime]

    files = {name: fact(path) for name, path in sources.list_files().items()}
    return {"files": files, "names": list(sources.negative_names), "data": config.data.model_dump(mode="json")}


def _choose_seeds(folder: Path, config: Config, asked: int | None, *, resume: bool) -> list[int]:
    """The seeds to train with, that of the run first.

    Raises:
        InputError: not a number of seeds, or more than there are from that of the run on.
    """
    from ebox.settings.fields import SEED_END

    if asked is None:
        asked = max(1, len(read_request(folder).get("seeds", []))) if resume else 1
    if not isinstance(asked, Integral) or asked < 1:
        raise InputError(f"--seeds {asked} is not how many networks to train", remedy="give a whole number from 1 on")
    if asked > 1 and config.ensemble.members is not None:
        raise InputError(
            "ensembles with neighbouring seeds share members, so they show no spread over seeds",
            remedy="leave --seeds out, or --ensemble",
        )
    first = config.train.seed
    if first + asked > SEED_END:
        raise InputError(
            f"there are no {asked:,} seeds from {first:,} on; the last one is {SEED_END - 1:,}",
            remedy="give a lower --seed, or fewer --seeds",
        )
    return list(range(first, first + asked))


def _find_place(folder: Path, seeds: Sequence[int], number: int) -> Path:
    """The run folder of a seed: the first is the run itself."""
    return folder / SEEDS / str(seeds[number]) if number else folder


def _with_seeds(request: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """A request with the seeds, where there are several."""
    data = {key: value for key, value in request.items() if key != "seeds"}
    return {**data, "seeds": list(seeds)} if len(seeds) > 1 else data


def _keep_seeds(folder: Path, request: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Keep which seeds were asked for: only these are measured, and a later --resume goes on with them."""
    kept = read_request(folder)
    kept = kept if kept else dict(request)
    if _with_seeds(kept, seeds) != kept:
        write_json(folder / REQUEST, _with_seeds(kept, seeds))


def _check_early(sources: DatasetSources, config: Config, motifs: Sequence[PathLike], folder: Path) -> None:
    """Raise InputError at the start for what would otherwise be refused after the build or the training."""
    from ebox.datasets.sources import check_sources, choose_kinds
    from ebox.evaluation.protocol import gather_motifs
    from ebox.mesh.devices import find_devices, make_mesh
    from ebox.training.step import make_plan
    from ebox.tuning.ensembles import check_members
    from ebox.workers.processes import is_cluster_task, is_member

    if is_member() or is_cluster_task(os.environ):
        raise InputError(
            "every task of this cluster's job, or process of this group, would build and report into one folder",
            remedy="build first, then train in all of them, as by `srun ebox train`, then evaluate and report in one",
        )
    check_members(config)
    check_sources(sources)
    taken = take_settings(config, folder)
    choose_kinds(config.data, sources)
    gather_motifs(config.evaluation, motifs)
    # Workers find their own devices; to look here would take the accelerators away from them.
    if not config.parallel.starts_workers:
        make_plan(taken, make_mesh(find_devices(config.parallel), config.parallel.node_devices))


def _check_made(made: Dataset, config: Config, folder: Path, progress: Progress) -> None:
    """Raise InputError where no training could begin on a dataset that is to take the place of that in `folder`."""
    from ebox.storage import run_folder

    fitted = fit_training(take_settings(config, folder), made)
    taken = describe_transfer(fitted, made, None, progress, out=folder)
    old, given = (folder / run_folder.DATASET_FOLDER).resolve(), fitted.transfer.source_data
    sources = [] if taken is None else taken["sources"]
    replaced = {each["dataset"] for each in sources if each["fingerprint"] != made.fingerprint}
    if old in {Path(place).resolve() for place in (*replaced, *(() if given is None else given))}:
        raise InputError(
            "the network to begin with was trained on this dataset, which the new one would replace",
            file=folder / run_folder.DATASET_FOLDER,
            remedy="choose another --out",
        )


def _check_trained(folder: Path, dataset: Path, config: Config) -> None:
    """Raise InputError where a finished training has other settings or data than this run."""
    from ebox.datasets.folder import open_dataset
    from ebox.storage import run_folder
    from ebox.training.checkpoints import RunIdentity, check_identity

    data = open_dataset(dataset)
    identity = RunIdentity.of(fit_settings(take_settings(config, folder), data), data.fingerprint)
    check_identity(folder, read_json(folder / run_folder.TRAINING).get("identity"), identity)


def find_simulation(sources: DatasetSources, config: Config) -> Path | None:
    """The `simulation.json` of the sequences, if both files are the complete files of one simulation.

    The best possible result in it is only for these positives against these negatives.
    """
    positives = sources.positives
    if positives is None or Path(positives).name != "positives.fa" or config.data.negatives not in (None, ("given",)):
        return None
    beside, place = Path(positives).with_name("negatives.fa"), Path(positives).with_name("simulation.json")
    if [Path(path).resolve() for path in sources.negatives] != [beside.resolve()] or not place.is_file():
        return None
    length_bp = read_stamped(place, SIMULATION).get("config", {}).get("length_bp")
    return place if config.data.length_bp in (None, length_bp) else None


@contextmanager
def _request_kept(folder: Path, request: dict[str, Any]) -> Iterator[None]:
    """Write the request before the dataset is built, so that a killed run can be resumed; remove it after an error.

    If there is an earlier dataset, its request is kept until the new dataset is complete, so that a kill before that
    changes nothing.
    """
    from ebox.datasets.folder import is_dataset
    from ebox.storage import run_folder

    path = folder / REQUEST
    if is_dataset(folder / run_folder.DATASET_FOLDER):
        yield
        write_json(path, request)
        return
    write_json(path, request)
    try:
        yield
    except InputError:
        path.unlink(missing_ok=True)
        raise


def _check_request(folder: Path, sources: DatasetSources, config: Config, *, resume: bool) -> None:
    """Raise InputError where a resumed run asks for other data than the interrupted run."""
    place = folder / REQUEST
    if not (resume and place.exists()):
        return
    if _with_seeds(read_request(folder), ()) != json.loads(json.dumps(_request(sources, config))):
        raise InputError(
            "this folder was begun with other data or other data settings",
            file=place,
            remedy="give the same data and settings, or begin again with --overwrite",
        )


def describe(result: RunResult) -> str:
    """The test metrics of each track, and the path of the report."""
    return f"{describe_metrics(result.evaluation.facts)}\nreport: {result.report}"
