"""Measure a trained network on the validation and test splits, beside the baselines."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.progress import PathLike, Progress, quiet
from ebox.storage.names import SPLITS
from ebox.storage.publishing import find_command, publish_file, write_json
from ebox.storage.reads import count_read
from ebox.storage.run_folder import name_other
from ebox.storage.stamps import SIMULATION_OF_RUN, read_stamped
from ebox.verbs.build import describe_examples
from ebox.verbs.evaluated import Evaluated, find_evaluated
from ebox.verbs.transferred import count_seen_by_source
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    import numpy as np

    from ebox.datasets.folder import Dataset
    from ebox.datasets.sources import DatasetSources
    from ebox.models.files import LoadedModel
    from ebox.settings.reading import Config

_EXAMPLES = """Examples, for other data than those of the run; every example is test:
  ebox evaluate runs/tal1 --table other.csv
  ebox evaluate runs/tal1 --positives bound.fa --negatives unbound.fa
  ebox evaluate runs/tal1 --peaks peaks.bed --genome hg38.fa
"""
VERB = Verb(
    "evaluate",
    arguments={"run": "RUN"},
    settings=(
        "data.negatives",
        "data.match_repeats",
        "evaluation.prevalence",
        "evaluation.target_fdr",
        "parallel.platform",
        "parallel.devices",
    ),
    of_run=("evaluation", "data"),
    # Every example is test.
    without=("tracks", *(f"{split}{more}" for split in SPLITS for more in ("", "_negatives"))),
    epilog=_EXAMPLES,
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
    sources: DatasetSources | None = None,
    name: str | None = None,
    motifs: Sequence[PathLike] = (),
    progress: Progress = quiet,
    command: Sequence[str] | None = None,
) -> EvaluationResult:
    """Measure a trained network on held-out sequences, beside the baselines.

    On other data (--data, or files of which every example is test) thresholds and baselines are those of the run's own
    training data, and examples that trained the network are measured apart.

    Args:
        run: Run folder with a trained model.
        data: Dataset folder, of which the test split is measured; that of the run when left out.
        config: The settings, of which `evaluation` and `parallel` are used, and for sources `data`; none: those of the
            run, with the devices of this machine.
        sources: Files of which every example is test, instead of a dataset.
        name: Name of the evaluation on other data, which is written beside that of the run; none: that of the folder or
            file.
        motifs: MEME, JASPAR, HOMER or HOCOMOCO file for the baselines on motifs, beside all that are known. Other
            motifs alone: --set evaluation.motifs=['MA0139.2'].
        progress: Called with a phrase, the number done, and the number in all.
        command: The command line to keep; none: that of this process, where it is one of ebox.

    Raises:
        InputError: no model, no dataset, a dataset of another length or other tracks, or sources that can't be read or
            measured.
    """
    from ebox.datasets.writing import write_dropped
    from ebox.models.files import load_model
    from ebox.settings.reading import read_run_settings
    from ebox.storage import run_folder

    folder = Path(run)
    model = load_model(folder)
    config = read_run_settings(folder, VERB.of_run) if config is None else config
    found = find_evaluated(folder, model, data, sources, name, config.data, progress)
    dataset = found.dataset
    is_own = found.name is None
    ceiling = _read_ceiling(folder / run_folder.SIMULATION) if is_own else None
    facts, logits, spread = _measure(folder, model, found, config, motifs, progress, ceiling)
    facts |= {
        "command": find_command(command),
        "seen_in_training": found.count_seen(),
        "seen_by_source": count_seen_by_source(folder) if is_own else None,
        "files": list(found.files),
        "chosen_on": found.chosen_on,
        "quality": found.quality,
        "test_reads": count_read(folder, dataset.hash_split("test"), found.name),
    }
    shifts = {track["track"]: track["shift"] for track in facts["tracks"] if track["shift"] is not None}
    written = _list_held_out(dataset) if is_own else dataset.rows("test")
    _write_predictions(_name(folder, run_folder.PREDICTIONS, found), dataset, logits, written, shifts, spread)
    if is_own:
        _write_filters(folder / run_folder.FILTERS, model, dataset, progress)
    _add_seeds(folder, facts, found, config, progress)
    if found.log is not None:
        with publish_file(_name(folder, run_folder.DROPPED, found)) as temporary:
            write_dropped(temporary, found.log)
    path = _name(folder, run_folder.EVALUATION, found)
    write_json(path, facts)
    return EvaluationResult(path, facts)


def _measure(
    folder: Path,
    model: LoadedModel,
    found: Evaluated,
    config: Config,
    motifs: Sequence[PathLike],
    progress: Progress,
    ceiling: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], np.ndarray, np.ndarray | None]:
    """The facts of a network and its baselines, the logits of all rows (NaN in training), and the spread of held-out.

    Args:
        folder: The run folder.
        model: Its network.
        found: What is measured.
        config: The settings, of which `evaluation` and `parallel` are used.
        motifs: Files of more motifs.
        progress: Called with the stage, the number done and the number in all.
        ceiling: The best possible result.
    """
    import numpy as np

    from ebox.evaluation.ensembles import MemberLogits
    from ebox.evaluation.protocol import evaluate as measure
    from ebox.evaluation.reading import find_shareless
    from ebox.evaluation.scores import predict_model
    from ebox.mesh.devices import find_local_devices, make_mesh
    from ebox.models.files import load_teacher

    dataset, settings, held_out = found.dataset, config.evaluation, _list_held_out(found.dataset)
    logits = np.full((len(dataset), len(model.tracks)), np.nan, np.float32)
    how = partial(
        predict_model,
        codes=dataset.codes[held_out],
        both_strands=settings.both_strands,
        batch_size=settings.batch_size,
        mesh=make_mesh(find_local_devices(config.parallel)),
        progress=progress,
    )
    scores, teacher = how(model), None if model.spread is None else load_teacher(folder)
    said, maps = (scores.members, model.maps) if teacher is None else (how(teacher).members, teacher.maps)
    logits[held_out] = scores.logits
    members = None if said is None else MemberLogits.of(said, held_out, len(dataset), teacher is not None, maps)
    facts = measure(
        dataset,
        logits,
        settings,
        motif_files=motifs,
        ceiling=ceiling,
        kept=found.kept,
        members=members,
        shareless=find_shareless(folder, model.tracks),
        progress=progress,
    )
    return facts, logits, scores.spread


def _list_held_out(dataset: Dataset) -> slice:
    return slice(dataset.rows("validation").start, dataset.rows("test").stop)


def _add_seeds(folder: Path, facts: Mapping[str, Any], found: Evaluated, config: Config, progress: Progress) -> None:
    """Measure the trainings with other seeds in the same way, and put the spread of all into the facts.

    Of the run's own test split each gets an evaluation of its own, of other data none.
    """
    from ebox.evaluation.spread import describe_spread
    from ebox.models.files import load_model
    from ebox.settings.reading import read_config
    from ebox.storage import run_folder

    # The baselines are of the data, and the same for every seed.
    alone = config.evaluation.model_copy(update={"baselines": ()})
    config = config.model_copy(update={"evaluation": alone})
    seeds, tracks = run_folder.find_seeds(folder), {}
    for number, (seed, place) in enumerate(seeds.items(), start=1):
        if found.name is None:
            measured = evaluate(place, config=config, progress=progress, command=facts["command"]).facts
        else:
            measured = _measure(place, load_model(place), found.of_training(place), config, (), progress)[0]
        tracks[seed] = measured["tracks"]
        progress("measuring other seeds", number, len(seeds))
    own = read_config(folder / run_folder.CONFIG).train.seed
    for number, track in enumerate(facts["tracks"]):
        track["seeds"] = describe_spread(track, {seed: other[number] for seed, other in tracks.items()}, own)


def _name(folder: Path, file: str, found: Evaluated) -> Path:
    return folder / (file if found.name is None else name_other(file, found.name))


def _write_predictions(
    path: Path,
    data: Dataset,
    logits: np.ndarray,
    rows: slice,
    shifts: Mapping[str, float],
    spread: np.ndarray | None,
) -> None:
    """Publish the held-out predictions as a table.

    Args:
        path: The file.
        data: The dataset.
        logits: Of all its examples.
        rows: The examples of the table.
        shifts: For a column for the stated prevalence of each track.
        spread: Of the examples that were held out, for a column of each track; none: there is no ensemble.
    """
    import numpy as np
    import polars as pl

    from ebox.evaluation.split_metrics import squash

    places = ("name", "kind", "split", "chrom", "start", "end", "cluster")
    table = data.examples[rows.start : rows.stop].select(*places, related=pl.col("relative").is_not_null())
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
        if spread is not None:
            begin = rows.start - _list_held_out(data).start
            own = spread[begin : begin + rows.stop - rows.start, number]
            columns.append(pl.Series(f"logit_spread_{track}", own.astype(np.float64)))
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
    from ebox.models.ensemble import all_filters

    rows = data.rows("validation")
    positive = (np.asarray(data.targets[rows]) == 1).any(axis=1)
    motifs = filter_motifs(
        all_filters(model.network),
        np.asarray(data.codes[rows]),
        positive,
        strands=model.config.read_strands,
        progress=progress,
    )
    write_json(path, filters_to_json(motifs, split="validation"))


def describe(result: EvaluationResult) -> str:
    """What other data hold, the test metrics of each track beside the baselines, and the path of the evaluation."""
    quality = result.facts["quality"]
    told = [] if quality is None else [describe_examples(quality, ("test",))]
    return "\n".join([*told, describe_metrics(result.facts), f"evaluation: {result.path}"])


def describe_metrics(facts: Mapping[str, Any]) -> str:
    """The headline of an evaluation in a few lines of plain text."""
    from ebox.reporting.languages import find_language

    say = find_language().say
    lines = []
    for track in facts["tracks"]:
        test = track["splits"]["test"]
        lines.append(
            f"{track['track']}, test split, {test['num_examples']:,} examples, {test['num_positive']:,} positive"
            + _describe_unknown(track.get("num_unknown", {}).get("test", 0))
        )
        if test["metrics"] is None:
            lines.append(f"  not measured: {say(test['reason'])}")
            continue
        for name in ("auroc", "auprc", "accuracy", "mcc"):
            lines.append(f"  {name:<9}{_describe_metric(test['metrics'][name])}")
        lines += _describe_trust(track)
        if track.get("seeds") is not None:
            lines.append(f"  {say(track['seeds'])}")
        if track.get("ensemble") is not None:
            lines.append(f"  {say(track['ensemble'])}")
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
    before = facts.get("seen_by_source")
    if before is not None:
        lines.append(f"note: {say(before, 'seen_by_source')}")
    if facts.get("chosen_on") is not None:
        lines.append(f"note: {say(facts['chosen_on'])}")
    reads = facts.get("test_reads")
    if reads is not None and reads["num_reads"] > 1:
        lines.append(f"note: {say(reads, 'test_reads')}")
    return "\n".join(lines)


def _describe_trust(track: Mapping[str, Any]) -> list[str]:
    """The calibration error, and how often the sets of each class hold the right answer."""
    from ebox.reporting.languages import find_language

    lines, sets = [], track.get("sets")
    error = track["splits"]["test"]["metrics"].get("calibration_error")
    if error is not None:
        lines.append(f"  calibration error {_describe_metric(error)}")
    # An older evaluation has no sets.
    if sets is not None and sets["test"] is None:
        lines.append(f"  no sets of answers, which are from validation: {find_language().say(sets['reason'])}")
    elif sets is not None:
        told = (
            f"{entry['coverage']['value']:.4f} of the {name}s ({entry['mean_size']:.2f} answers)"
            for name, entry in sets["test"].items()
        )
        lines.append(f"  sets of answers, meant to be right for {sets['coverage']:.3g}: for {', '.join(told)}")
    return lines


def _describe_unknown(num: int) -> str:
    return f" ({num:,} with an unknown label left out)" if num else ""


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
