"""Measure a trained network on the validation and test splits, beside the baselines."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
from ebox.progress import PathLike, Progress, quiet
from ebox.storage.publishing import find_command, publish_file, write_json
from ebox.storage.stamps import SIMULATION_OF_RUN, read_stamped
from ebox.verbs.opening import open_dataset_of
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    import numpy as np

    from ebox.datasets.folder import Dataset
    from ebox.models.files import LoadedModel
    from ebox.settings.reading import Config


VERB = Verb(
    "evaluate",
    arguments={"run": "RUN"},
    settings=("evaluation.prevalence", "evaluation.target_fdr", "parallel.platform", "parallel.devices"),
    of_run="evaluation",
)


@dataclass(frozen=True)
class EvaluationResult:
    """The file of an evaluation, and the facts in it (docs/evaluation.md)."""

    path: Path
    facts: dict[str, Any]

    def metric(self, name: str, *, split: str = "test", track: int = 0) -> tuple[float, float | None, float | None]:
        """Value and ends of the 95 % interval of a metric, such as `auroc`; None for ends that it does not have."""
        entry = self.facts["tracks"][track]["splits"][split]["metrics"][name]
        return entry["value"], entry["low"], entry["high"]


def evaluate(
    run: PathLike,
    data: PathLike | None = None,
    config: Config | None = None,
    *,
    motifs: Sequence[PathLike] = (),
    progress: Progress = quiet,
    command: Sequence[str] | None = None,
) -> EvaluationResult:
    """Measure a trained network on held-out sequences, beside the baselines.

    Args:
        run: Run folder with a trained model.
        data: Dataset folder; that of the run when left out. The evaluation on another dataset is written beside that
            of the run, under the name of the dataset's folder. Its threshold is chosen on that dataset's own
            validation split, and its test sequences that trained this network are counted.
        config: The settings, of which `evaluation` and `parallel` are used; none: those of the run, with the devices
            of this machine.
        motifs: MEME, JASPAR, HOMER or HOCOMOCO file for the baselines on motifs, beside all that are known. Other
            motifs alone: --set evaluation.motifs=['MA0139.2'].
        progress: Called with a phrase, the number done, and the number in all.
        command: The command line to keep; none: that of this process, where it is one of ebox.

    Raises:
        InputError: no model, no dataset, or a dataset of another length or other tracks.
    """
    import numpy as np

    from ebox.evaluation.inference import predict as predict_logits
    from ebox.evaluation.protocol import evaluate as measure
    from ebox.mesh.devices import find_local_devices, make_mesh
    from ebox.models.files import load_model
    from ebox.settings.reading import ParallelConfig, read_config
    from ebox.storage import run_folder

    folder = Path(run)
    model = load_model(folder)
    if config is None:
        config = read_config(folder / run_folder.CONFIG).model_copy(update={"parallel": ParallelConfig()})
    settings = config.evaluation
    dataset, is_own = open_dataset_of(folder, data)
    _check_fits(dataset, model.length_bp, model.tracks)
    held_out = slice(dataset.rows("validation").start, dataset.rows("test").stop)
    logits = np.full((len(dataset), len(model.tracks)), np.nan, np.float32)
    logits[held_out] = predict_logits(
        model.network,
        dataset.codes[held_out],
        both_strands=settings.both_strands,
        batch_size=settings.batch_size,
        mesh=make_mesh(find_local_devices(config.parallel)),
        progress=progress,
    )
    seen = None if is_own else _mark_related(folder, dataset, progress)
    # Of another dataset its own column says nothing of this network; without the training data nothing is known.
    related = None if is_own else np.zeros(len(dataset), dtype=bool) if seen is None else seen
    ceiling = _read_ceiling(folder / run_folder.SIMULATION) if is_own else None
    facts = measure(dataset, logits, settings, motif_files=motifs, ceiling=ceiling, related=related, progress=progress)
    facts["command"] = find_command(command)
    facts["seen_in_training"] = None if is_own else _count_seen(seen, dataset)
    suffix = "" if is_own else f"-{dataset.path.resolve().name}"
    shifts = {track["track"]: track["shift"] for track in facts["tracks"] if track["shift"] is not None}
    _write_predictions(_with_suffix(folder / run_folder.PREDICTIONS, suffix), dataset, logits, held_out, shifts)
    if is_own:
        _write_filters(folder / run_folder.FILTERS, model, dataset, progress)
        _add_seeds(folder, facts, config, progress)
    path = _with_suffix(folder / run_folder.EVALUATION, suffix)
    write_json(path, facts)
    return EvaluationResult(path, facts)


def _add_seeds(folder: Path, facts: Mapping[str, Any], config: Config, progress: Progress) -> None:
    """Measure the trainings with other seeds in the same way, and put the spread of all into the facts."""
    from ebox.evaluation.spread import describe_spread
    from ebox.settings.reading import read_config
    from ebox.storage import run_folder

    # The baselines are of the data, and the same for every seed.
    alone = config.evaluation.model_copy(update={"baselines": ()})
    config = config.model_copy(update={"evaluation": alone})
    found, tracks = run_folder.find_seeds(folder), {}
    for number, (seed, place) in enumerate(found.items(), start=1):
        tracks[seed] = evaluate(place, config=config, progress=progress, command=facts["command"]).facts["tracks"]
        progress("measuring other seeds", number, len(found))
    own = read_config(folder / run_folder.CONFIG).train.seed
    for number, track in enumerate(facts["tracks"]):
        track["seeds"] = describe_spread(track, {seed: other[number] for seed, other in tracks.items()}, own)


def _mark_related(folder: Path, data: Dataset, progress: Progress) -> np.ndarray | None:
    """For another dataset which of its examples this network has seen; None where its own dataset is missing."""
    import numpy as np

    from ebox.datasets.seen import find_seen

    try:
        own, _ = open_dataset_of(folder, None)
    except InputError:
        return None
    held_out = slice(data.rows("validation").start, data.rows("test").stop)
    related = np.zeros(len(data), dtype=bool)
    related[held_out] = find_seen(own, data, held_out, progress)
    return related


def _count_seen(related: np.ndarray | None, data: Dataset) -> dict[str, int] | None:
    """How many test sequences of another dataset this network has seen."""
    if related is None:
        return None
    test = related[data.rows("test")]
    return {"num_examples": int(test.sum()), "of": len(test)}


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}{suffix}{path.suffix}")


def _check_fits(data: Dataset, length_bp: int, tracks: tuple[str, ...]) -> None:
    if data.length_bp != length_bp:
        raise InputError(
            f"holds sequences of {data.length_bp} bp; the model was trained on {length_bp} bp", file=data.path
        )
    if data.tracks != tracks:
        raise InputError(
            f"has the tracks {', '.join(data.tracks)}; the model gives {', '.join(tracks)}", file=data.path
        )


def _write_predictions(path: Path, data: Dataset, logits: np.ndarray, rows: slice, shifts: Mapping[str, float]) -> None:
    """Publish the held-out predictions as a table; `shifts` give a column for the stated prevalence."""
    import numpy as np
    import polars as pl

    from ebox.evaluation.split_metrics import squash

    table = data.examples[rows.start : rows.stop].select("name", "kind", "split", "chrom", "start", "end")
    columns = []
    for number, track in enumerate(data.tracks):
        values = logits[rows, number].astype(np.float64)
        columns += [
            pl.Series(f"target_{track}", np.asarray(data.targets[rows, number])),
            pl.Series(f"logit_{track}", values),
            pl.Series(f"probability_{track}", squash(values)),
        ]
        if track in shifts:
            columns.append(pl.Series(f"probability_at_prevalence_{track}", squash(values + shifts[track])))
    # Through memory, so that a full disk raises our error and not one of the library.
    buffer = io.BytesIO()
    table.with_columns(columns).write_parquet(buffer)
    with publish_file(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _read_ceiling(path: Path) -> Mapping[str, Any] | None:
    """The best possible result, where the sequences were simulated."""
    return read_stamped(path, SIMULATION_OF_RUN).get("ceiling") if path.exists() else None


def _write_filters(path: Path, model: LoadedModel, data: Dataset, progress: Progress) -> None:
    """Publish what the first layer looks for, found in validation examples."""
    import numpy as np

    from ebox.explanation.filters import filter_motifs, filters_to_json
    from ebox.models.architectures import first_layer_filters

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


def describe(result: EvaluationResult) -> str:
    """The test metrics of each track beside the baselines, and the path of the evaluation."""
    return f"{describe_metrics(result.facts)}\nevaluation: {result.path}"


def describe_metrics(facts: Mapping[str, Any]) -> str:
    """The headline of an evaluation in a few lines of plain text."""
    from ebox.reporting.languages import find_language

    say = find_language().say
    lines = []
    for track in facts["tracks"]:
        test = track["splits"]["test"]
        lines.append(
            f"{track['track']}, test split, {test['num_examples']:,} examples, {test['num_positive']:,} positive"
        )
        if test["metrics"] is None:
            lines.append(f"  not measured: {say(test['reason'])}")
            continue
        for name in ("auroc", "auprc", "accuracy", "mcc"):
            lines.append(f"  {name:<9}{_describe_metric(test['metrics'][name])}")
        if track.get("seeds") is not None:
            lines.append(f"  {say(track['seeds'])}")
        if test["relatives"] is not None:
            lines.append(f"  {say(test['relatives'], 'test_relatives')}")
        if test["no_interval"] is not None:
            lines.append(f"  no intervals: {say(test['no_interval'])}")
        lines += [f"  where positives are 1:{_describe_rare(entry)}" for entry in test["prevalences"]]
        lines += [f"  against {name}: {_describe_baseline(entry)}" for name, entry in track["baselines"].items()]
    seen = facts.get("seen_in_training")
    if seen is not None and seen["num_examples"]:
        lines.append(
            f"note: {seen['num_examples']:,} of these {seen['of']:,} test sequences, or relatives of them, trained "
            "this network"
        )
    return "\n".join(lines)


def _describe_baseline(baseline: Mapping[str, Any]) -> str:
    from ebox.reporting.languages import find_language

    if baseline["reason"] is not None:
        return f"not fitted: {find_language().say(baseline['reason'])}"
    metrics = baseline["splits"]["test"]["metrics"]
    return f"AUROC {metrics['auroc']['value']:.4f}, AUPRC {metrics['auprc']['value']:.4f}"


def _describe_rare(entry: Mapping[str, Any]) -> str:
    """AUPRC at a prevalence, the precision of the calls, and the threshold for the false discovery rate."""
    from ebox.reporting.languages.english import say

    used, kept = entry["calls"]["used"], entry["calls"].get("fdr")
    told = f"{entry['odds']:,.4g}: AUPRC {entry['auprc']['value']:.4f}"
    told += f", {say(used['reason'])}" if used["reason"] else f", precision {used['precision']['value']:.4f}"
    if kept is None or kept["threshold"]["value"] is None:
        return told
    return f"{told}; at {kept['threshold']['value']:.4f} sensitivity {kept['sensitivity']['value']:.4f}"


def _describe_metric(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return "undefined"
    if metric["low"] is None:
        return f"{metric['value']:.4f}"
    return f"{metric['value']:.4f}  (95 % interval {metric['low']:.4f} to {metric['high']:.4f})"
