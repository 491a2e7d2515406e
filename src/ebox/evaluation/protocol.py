"""The protocol of an evaluation: from the logits of a dataset to the facts of evaluation.json (docs/evaluation.md)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from ebox.datasets.folder import UNKNOWN_TARGET, Dataset
from ebox.errors import InputError
from ebox.evaluation.baselines import (
    BaselineResult,
    LabelledCodes,
    Unfitted,
    UnfittedError,
    fit_confound_logistic,
    fit_gc_logistic,
    fit_kmer_logistic,
)
from ebox.evaluation.clusters import Clustering
from ebox.evaluation.conformal import find_limits, measure_sets
from ebox.evaluation.ensembles import MemberLogits, describe_ensembles
from ebox.evaluation.gapped_kmers import fit_gapped_kmer_logistic
from ebox.evaluation.motif_hits import Screen, fit_best_pwm, fit_motif_logistic
from ebox.evaluation.prevalence import shift_log_odds
from ebox.evaluation.reading import Kept
from ebox.evaluation.split_metrics import (
    SplitScores,
    choose_threshold_of,
    compare_with_best,
    describe_figures,
    measure_prevalences,
    measure_split,
    part_relatives,
    round_numbers,
    squash,
)
from ebox.progress import Progress, quiet
from ebox.sequences.motifs import Motif, find_motif, load_known_motifs, read_motifs
from ebox.settings.reading import EvaluationConfig
from ebox.storage.names import MODEL
from ebox.storage.notes import note
from ebox.storage.stamps import EVALUATION, stamped

# Negatives of one track that are positives of another.
OTHER_TRACKS = "other_tracks"
EVALUATED_SPLITS = ("validation", "test")
ON_MOTIFS = {"best_pwm", "motif_logistic"}


def evaluate(
    dataset: Dataset,
    logits: Float32[np.ndarray, "examples tracks"],
    config: EvaluationConfig,
    *,
    motif_files: Sequence[str | os.PathLike[str]] = (),
    ceiling: Mapping[str, Any] | None = None,
    related: Bool[np.ndarray, " examples"] | None = None,
    kept: Mapping[str, Kept] | None = None,
    members: MemberLogits | None = None,
    shareless: Mapping[str, dict[str, Any]] | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Measure logits, and baselines fitted on the training split, on the validation and test splits.

    Args:
        dataset: Sequences, targets, kinds and splits.
        logits: One row for each example of the dataset; rows of the training split are not read.
        config: Bootstrap, threshold, baselines.
        motif_files: Files of more motifs (MEME, JASPAR, HOMER or HOCOMOCO) for the best PWM hit, beside
            `config.motifs`.
        ceiling: The result of the exact likelihood ratio on simulated data; copied into the facts.
        related: Which examples have a relative in the training of the network; none: what the dataset says.
        kept: For each track what an earlier evaluation chose, for a dataset without validation examples.
        members: What the members say of the ensemble that the network is, or was distilled from; none: a plain
            training.
        shareless: For each track whose probabilities don't hold for the share of positives of validation, the note why.
        progress: Called with the stage, the number of steps done and the number in all.

    Returns:
        The content of evaluation.json: plain dicts, lists, strings and finite numbers.

    Raises:
        InputError: logits of another shape or not finite, a motif that cannot be read, or no track that has
            positives and negatives in both splits.
    """
    expected = (len(dataset), len(dataset.tracks))
    if logits.shape != expected:
        raise InputError(
            f"logits have shape {logits.shape}, and the dataset (examples, tracks) {expected}",
            file=dataset.path,
            remedy="predict the dataset that is evaluated",
        )
    motifs = gather_motifs(config, motif_files)
    report = _Report(progress, len(dataset.tracks) * (len(config.baselines) + len(EVALUATED_SPLITS)))
    related = dataset.examples["relative"].is_not_null().to_numpy() if related is None else related
    kept, shareless = kept or {}, shareless or {}
    tracks = [
        _evaluate_track(dataset, logits, track, config, motifs, related, kept.get(name), members, report)
        for track, name in enumerate(dataset.tracks)
    ]
    for track, name in zip(tracks, dataset.tracks, strict=True):
        if name in shareless:
            track |= {"share": None, "share_reason": shareless[name], "shift": None}
    _check_measured(dataset, tracks)
    facts = {
        "dataset": {"path": str(dataset.path), "fingerprint": dataset.fingerprint, "length_bp": dataset.length_bp},
        "config": config.model_dump(mode="json"),
        "motif_files": [str(file) for file in motif_files],
        "tracks": tracks,
        "ceiling": None if ceiling is None else dict(ceiling),
    }
    return stamped(EVALUATION, facts)


def gather_motifs(config: EvaluationConfig, motif_files: Sequence[str | os.PathLike[str]] = ()) -> list[Motif]:
    """The motifs of `config.motifs`, or all known ones, and those of the files; none where no baseline uses them.

    Raises:
        InputError: an unknown motif, or a file that cannot be read.
    """
    if not ON_MOTIFS & set(config.baselines):
        return []
    files = [Path(file) for file in motif_files]
    named = load_known_motifs() if config.motifs is None else [find_motif(name, files) for name in config.motifs]
    every = [*named, *(motif for file in files for motif in read_motifs(file))]
    return list({(motif.name, motif.source): motif for motif in every}.values())


@final
class _Report:
    """Counts the steps, and calls `progress` with each."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def step(self, stage: str) -> None:
        self._progress(stage, self._done, self._total)
        self._done += 1


def _check_measured(dataset: Dataset, tracks: Sequence[Mapping[str, Any]]) -> None:
    """Raise InputError when the test split gives no metric for any track."""
    tests = [track["splits"]["test"] for track in tracks]
    if all(test["metrics"] is None for test in tests):
        raise InputError(
            f"the test split can't be measured: {tracks[0]['track']} has "
            f"{tests[0]['reason']['code'].replace('_', ' ')} there",
            file=dataset.path,
            remedy="give test data that hold positives and negatives; in a dataset data.test_chroms and "
            "data.split_fractions say what is test",
        )


def _evaluate_track(
    dataset: Dataset,
    logits: Float32[np.ndarray, "examples tracks"],
    track: int,
    config: EvaluationConfig,
    motifs: Sequence[Motif],
    related: Bool[np.ndarray, " examples"],
    kept: Kept | None,
    members: MemberLogits | None,
    report: _Report,
) -> dict[str, Any]:
    """One element of `tracks`."""
    name = dataset.tracks[track]
    splits = {split: _select_split(dataset, logits, track, split) for split in EVALUATED_SPLITS}
    baselines = _add_baselines(dataset, track, splits, config, motifs, report)
    validation, test = splits["validation"], splits["test"]
    thresholds = {model: choose_threshold_of(validation, model, config.threshold) for model in test.probabilities}
    balanced = {model: choose_threshold_of(validation, model, "balanced_accuracy") for model in test.probabilities}
    if kept is not None:
        thresholds[MODEL], balanced[MODEL] = dict(kept.threshold), dict(kept.balanced)
    whole, is_related = test, related[test.rows]
    test, relatives = part_relatives(whole, is_related, thresholds, config)
    splits["test"] = test
    sections, samples = {}, {}
    for split, scores in splits.items():
        report.step(f"measuring {name} on {split}")
        sections[split], samples[split] = measure_split(scores, thresholds, balanced, config)
    # Relatives of training examples are easier: what is promised for new sequences is found without them.
    unseen = validation.take(~related[validation.rows])
    rare = measure_prevalences(unseen, test, thresholds, config)
    for model, section in sections["test"].items():
        section["prevalences"] = rare[model]
        section["relatives"] = relatives.get(model)
    for model, section in baselines.items():
        if model in thresholds:
            section["threshold"] = thresholds[model]
            section["splits"] = {split: sections[split][model] for split in splits}
    return {
        "track": name,
        "threshold": thresholds[MODEL],
        "num_unknown": {split: _count_unknown(dataset, track, split) for split in splits},
        "splits": {split: sections[split][MODEL] for split in splits},
        "baselines": baselines,
        "comparison": compare_with_best(samples),
        "seeds": None,
        "ensemble": None
        if members is None
        else describe_ensembles(validation, whole, is_related, relatives, members, track, config),
        **_describe_share(validation, kept, config.prevalence),
        "sets": _describe_sets(unseen, test, kept, config.set_coverage),
        **describe_figures(test),
    }


def _describe_share(validation: SplitScores, kept: Kept | None, prevalence: float | None) -> dict[str, Any]:
    """The share of positives for which probabilities hold, and what the stated prevalence adds to the logits.

    The share is that of validation, which calibrates the network and chooses its threshold.
    """
    share = None if kept is None else kept.share
    if validation.why_undefined() is None:
        share = float(validation.targets.mean())
    shift = None if share is None or prevalence is None else round(shift_log_odds(share, prevalence), 6)
    reason = validation.why_undefined() if share is None else None
    return {"share": share, "share_reason": reason, "shift": shift}


def _describe_sets(validation: SplitScores, test: SplitScores, kept: Kept | None, coverage: float) -> dict[str, Any]:
    """The limits of the sets of answers from validation, or those that were kept, and what they do on test.

    Args:
        validation: Its examples that have no relative in training: with the others, which are easier, the sets would
            hold the right answer less often than stated for sequences that are new to the network.
        test: The examples that the figures are of.
        kept: What an earlier evaluation chose.
        coverage: The stated share.
    """
    limits, reason = None if kept is None else kept.limits, validation.why_undefined()
    if reason is None:
        known = Clustering.of(validation.targets, validation.clusters)
        limits, reason = find_limits(validation.targets, validation.probabilities[MODEL], known, coverage)
    if limits is None:
        return {"coverage": coverage, "limits": None, "reason": reason, "test": None}
    measured = None
    if test.why_undefined() is None:
        clusters = Clustering.of(test.targets, test.clusters)
        measured = round_numbers(measure_sets(limits, test.targets, test.probabilities[MODEL], clusters))
    return {"coverage": limits.coverage, "limits": limits.facts(), "reason": None, "test": measured}


def _select_split(
    dataset: Dataset, logits: Float32[np.ndarray, "examples tracks"], track: int, split: str
) -> SplitScores:
    """The examples of a split whose target is known, with the probabilities of the model."""
    rows, targets, kinds = _find_known(dataset, track, split)
    chosen = logits[rows, track].astype(np.float64)
    num_missing = int(np.count_nonzero(~np.isfinite(chosen)))
    if num_missing:
        raise InputError(
            f"{num_missing} of {len(chosen)} logits of the {split} split are not finite numbers",
            file=dataset.path,
            remedy="predict the whole split; where the training diverged, lower train.learning_rate",
        )
    clusters = dataset.examples["cluster"].to_numpy()[rows].astype(np.int64)
    return SplitScores(rows, targets, kinds, clusters, {MODEL: squash(chosen)})


def _count_unknown(dataset: Dataset, track: int, split: str) -> int:
    """How many examples of a split are left out of a track, since their label is unknown there."""
    return int((np.asarray(dataset.targets[dataset.rows(split), track]) == UNKNOWN_TARGET).sum())


def _find_known(
    dataset: Dataset, track: int, split: str
) -> tuple[Int64[np.ndarray, " known"], Bool[np.ndarray, " known"], np.ndarray]:
    """Rows of a split whose target is known, their targets, and the kinds of the negatives among them."""
    part = dataset.rows(split)
    targets = np.asarray(dataset.targets[part, track])
    rows = np.flatnonzero(targets != UNKNOWN_TARGET) + part.start
    is_positive = np.asarray(dataset.targets[rows, track]) == 1
    kinds = dataset.kinds[rows].astype(object)
    kinds[~is_positive & (kinds == "positive")] = OTHER_TRACKS
    kinds[is_positive] = "positive"
    return rows, is_positive, kinds


def _add_baselines(
    dataset: Dataset,
    track: int,
    splits: Mapping[str, SplitScores],
    config: EvaluationConfig,
    motifs: Sequence[Motif],
    report: _Report,
) -> dict[str, dict[str, Any]]:
    """Fit each baseline, add its probabilities to the splits, and describe it or say why there is none."""
    rows, targets, _ = _find_known(dataset, track, "train")
    if not len(rows):
        reason = note(Unfitted.NO_TRAINING_DATA)
        return {
            name: {"description": None, "settings": {}, "reason": reason, "splits": {}} for name in config.baselines
        }
    chosen = {"train": (rows, targets)} | {split: (scores.rows, scores.targets) for split, scores in splits.items()}
    masked = _find_masked(dataset, {split: rows for split, (rows, _) in chosen.items()})
    parts = {
        split: LabelledCodes(_take_codes(dataset, rows), targets, masked.get(split))
        for split, (rows, targets) in chosen.items()
    }
    train, validation = parts["train"], parts["validation"]
    sections: dict[str, dict[str, Any]] = {}
    screen = cache(lambda: Screen(train, motifs, config.seed))
    for name in dict.fromkeys(config.baselines):
        report.step(f"fitting {name} to {dataset.tracks[track]}")
        try:
            fitted = _fit(name, train, validation, screen, config)
        except UnfittedError as error:
            sections[name] = {"description": None, "settings": {}, "reason": error.reason, "splits": {}}
            continue
        sections[name] = {"description": fitted.description, "settings": fitted.settings, "reason": None}
        for split, scores in splits.items():
            scores.probabilities[name] = squash(fitted.score(parts[split]))
    return sections


def _find_masked(
    dataset: Dataset, rows: Mapping[str, Int64[np.ndarray, " known"]]
) -> dict[str, Float32[np.ndarray, " known"]]:
    """The share of repeats of the genome of the rows of each split; empty where it is not known of all of them."""
    column = dataset.examples["masked"]
    if column.null_count() == len(column):
        return {}
    masked = column.to_numpy().astype(np.float32)
    found = {split: masked[part] for split, part in rows.items()}
    return {} if any(np.isnan(part).any() for part in found.values()) else found


def _take_codes(dataset: Dataset, rows: Int64[np.ndarray, " known"]) -> UInt8[np.ndarray, "known length"]:
    """The codes of rows in rising order: a view of the file where no row is left out, to save memory."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        return np.asarray(dataset.codes[rows[0] : rows[-1] + 1])
    return np.asarray(dataset.codes[rows])


def _fit(
    name: str,
    train: LabelledCodes,
    validation: LabelledCodes,
    screen: Callable[[], Screen],
    config: EvaluationConfig,
) -> BaselineResult:
    if name in ON_MOTIFS:
        fit_on_motifs = fit_best_pwm if name == "best_pwm" else fit_motif_logistic
        return fit_on_motifs(train, validation, screen(), seed=config.seed)
    if name == "kmer_logistic":
        return fit_kmer_logistic(train, validation, kmer=config.kmer, seed=config.seed)
    fit = {
        "gc_logistic": fit_gc_logistic,
        "confound_logistic": fit_confound_logistic,
        "gapped_kmer_logistic": fit_gapped_kmer_logistic,
    }[name]
    return fit(train, validation, seed=config.seed)
