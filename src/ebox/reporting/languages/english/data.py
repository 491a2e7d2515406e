"""Sentences about the data and the machine: what was dropped, planted, split and warned of, and how it was trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

from ebox.drawing.numbers import format_bytes, format_count, format_percent, format_seconds
from ebox.reporting.languages.english.names import join_words


def _tell_planted(made: Mapping[str, Any]) -> str:
    most = made["max_sites"]
    number = "" if not most else f"{made['min_sites']}{'' if most == made['min_sites'] else f' to {most}'} "
    planted = f"{number}planted {'site' if most == 1 else 'sites'} of " if most else ""
    names = [f"{motif['name']} ({motif['id']})" if motif["name"] else motif["id"] for motif in made["motifs"]]
    where = f", in the central {format_count(made['centre_bp'])} bp" if made["centre_bp"] else ""
    if made["spacing_bp"] is not None:
        where += f", {made['spacing_bp'][0]} to {made['spacing_bp'][1]} bp apart"
    either = ", on either strand" if made["orientation"] == "both" else ""
    return f"simulated, with {planted}{' and '.join(names)}{where}{either}"


def _tell_split(split: Mapping[str, Any]) -> str:
    reasons = {
        "asked": ", as the settings ask for",
        "all_placed": ", since every example names its place",
        "none_placed": ", since no example names its place",
        "some_placed": f", since {split.get('num_without_place'):,} of {split.get('num_examples'):,} examples name no "
        "place"
        if split.get("why") == "some_placed"
        else "",
    }
    return _tell_mode(split) + reasons.get(split.get("why", ""), "")


def _tell_mode(split: Mapping[str, Any]) -> str:
    if split["mode"] == "chromosome":
        chroms = split["chroms"]
        if not chroms:
            return "whole chromosomes"
        return (
            f"whole chromosomes: {join_words(chroms['validation'])} to choose the model and the threshold, "
            f"{join_words(chroms['test'])} to test; the others train"
        )
    if split["mode"] == "random":
        shares = [format_percent(share, 0) for share in split["fractions"] or ()]
        parts = f" ({' / '.join(shares)} train / validation / test)" if shares else ""
        return f"a random share, near-identical sequences kept on one side{parts}"
    return "as handed in" if split["mode"] == "given" else "not recorded"


_KINDS = {
    "residual": "A residual network",
    "convnext": "A ConvNeXt network",
    "motif": "A network of one layer of motif detectors",
}


def _tell_training(training: Mapping[str, Any]) -> str:
    kind = _KINDS[training["architecture"]]
    words = f"{kind} with {format_count(training['num_filters'])} filters of {training['filter_width_bp']} bp"
    if training["num_parameters"]:
        words += f" and {format_count(training['num_parameters'])} parameters in all"
    if training["steps"]:
        words += f", trained for {format_count(training['steps'])} steps"
        words += f" of {format_count(training['batch_size'])} sequences"
    if training["seconds"] is not None:
        words += f" in {format_seconds(training['seconds'])}"
    if training["sequences_per_second"]:
        words += f" ({format_count(training['sequences_per_second'])} sequences a second)"
    words += "."
    if training["stopped"] == "early":
        words += " It stopped early, when validation no longer improved."
    if training["best_step"] is not None and training["keep"] == "best":
        words += f" Kept is the model of step {format_count(training['best_step'])}, the best on validation data."
    return words


def _tell_devices(machine: Mapping[str, Any]) -> str:
    groups = []
    for kind, members in groupby(sorted(machine["devices"], key=lambda entry: entry["kind"]), lambda e: e["kind"]):
        group = list(members)
        platform = group[0]["platform"]
        name = kind.upper() if kind.lower() == platform else f"{kind} ({platform})"
        groups.append(f"{len(group)} \N{MULTIPLICATION SIGN} {name}")
    processes = machine["num_processes"]
    return ", ".join(groups) + (f", {processes} processes" if processes and processes > 1 else "")


def _tell_processor(machine: Mapping[str, Any]) -> str:
    words = machine["cpu"] if machine["cpu"] else "unknown"
    if machine["num_cores"]:
        words += f", {machine['num_cores']} cores"
    return words + (f", {format_bytes(machine['memory_bytes'])}" if machine["memory_bytes"] else "")


def _tell_workers(sent: Mapping[str, Any]) -> str:
    words = (
        f"{sent['workers']}; gradients travel by exchange “{sent['exchange']}”, sync “{sent['sync']}”: each worker "
        f"sent {sent['sent_bytes_a_step'] / 1e3:,.1f} kB a step, where exact gradients alone would be "
        f"{sent['exact_bytes_a_step'] / 1e3:,.1f} kB ({sent['ratio']:.1f} times as many)"
    )
    late = sent["staleness"]
    return words + (f"; gradients were {late['mean']:.1f} steps late on average, {late['max']} at most" if late else "")


def _tell_parity(parity: Mapping[str, Any]) -> str:
    chosen = f" with {', '.join(parity['overrides'])}" if parity["overrides"] else ""
    cases = [f"{case['workers']} {case['kind']} within {case['relative_difference']:.0e}" for case in parity["cases"]]
    equal = all(case["rerun_is_equal"] for case in parity["cases"])
    return (
        f"after {parity['steps']} steps of a fixed problem{chosen} on the machine of the certificate: "
        f"{', '.join(cases)} of one worker (relative; bound {parity['tolerance']:.0e}); a second run "
        f"{'is equal to the bit' if equal else 'differs'}"
    )


def _tell_unknown_chroms(found: Mapping[str, Any]) -> str:
    lacking, has = (join_words(found[key]) for key in ("chroms", "genome_chroms"))
    return (
        f"{found['num']:,} of {found['of']:,} records of {found['source']} lie on chromosomes that the genome lacks, "
        f"such as {lacking}, and has others, such as {has}: no window is taken there"
    )


_DID = {"data": "made the data", "training": "trained the network", "evaluation": "evaluated it"}


# A smaller difference of mean GC between negatives that fell short and positives is not worth a word.
LEAST_GC_BIAS = 0.01
_MATCHED = {"gc": "GC", "masked": "share of repeats"}


def _tell_few_made(note: Mapping[str, Any]) -> str:
    words = f"{note['num']:,} {note['kind']} negatives made, {note['wanted']:,} wanted"
    # Datasets built before this was measured have no GC here.
    pairs = [(name, note[key], note[f"{key}_of_positives"]) for key, name in _MATCHED.items() if key in note]
    told = [pair for pair in pairs if abs(pair[1] - pair[2]) >= LEAST_GC_BIAS]
    if not told:
        return words
    means = "; ".join(f"{name}: mean {mean:.1%}, of positives {positive:.1%}" for name, mean, positive in told)
    return f"{words}: those of some {' or '.join(name for name, _, _ in told)} are missing ({means})"


def _tell_n(note: Mapping[str, Any]) -> str:
    """N differs; where most sequences have some, dropping them would leave none."""
    subject = "N alone tells" if note["code"] == "n_differs" else "where N stands tells"
    remedy = "crop to where none stands (--set data.length_bp=…), or put N at the same places of both"
    if note["share_with_n"] < 0.5:
        remedy = "drop sequences with N (--set data.max_n_fraction=0)"
    return (
        f"{subject} positives from {note['kind']} negatives (AUROC {note['auroc']:.2f}; N are "
        f"{note['n_of_positives']:.2%} of the bases of positives, {note['n']:.2%} of the others): a network may learn "
        f"N; {remedy}"
    )


def _tell_no_repeats(found: Mapping[str, Any]) -> str:
    return (
        f"{found['source']} has no repeats on chromosomes with {found['num']:,} of {found['of']:,} positives, such as "
        f"{join_words(found['chroms'])}: they count as free of repeats"
    )


def _tell_masked(note: Mapping[str, Any]) -> str:
    remedy = "--match-repeats takes negatives with as many"
    if not note["can_match"]:
        remedy = "compare with the confound_logistic baseline, and with matched negatives (--match-repeats)"
    return (
        f"repeats of the genome alone tell positives from {note['kind']} negatives (AUROC {note['auroc']:.2f}; "
        f"{note['mean_of_positives']:.1%} of the bases of positives, {note['mean']:.1%} of the others): {remedy}"
    )


def _tell_shares(note: Mapping[str, Any]) -> str:
    of_negatives = ", ".join(f"{share:.1%} of {kind} negatives" for kind, share in note["kinds"].items())
    words = f"repeats: {note['positive']:.1%} of the bases of positives, {of_negatives}"
    alone = note["by_gc_alone"]
    return words if alone is None else f"{words} (matched by GC alone: {alone:.1%})"


def _tell_few_to_measure(note: Mapping[str, Any]) -> str:
    of_track = f" for {note['track']}" if "track" in note else ""
    return (
        f"{note['of']} is too small{of_track} to conclude anything from: independent positives {note['positive']:,}, "
        f"independent negatives {note['negative']:,} (families and overlapping loci count once), where at least "
        f"{note['needed']} of each are needed"
    )


DATA: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    # Why a record was dropped.
    "avoided": "on a peak of another set",
    "blacklisted": "blacklisted",
    "conflicting_labels": "conflicting labels",
    "duplicate": "duplicate",
    "in_other_split": "also in validation or test",
    "joined": "joined to the same locus of another track, which has its label",
    "near_positive": "lies on a positive or resembles it",
    "not_drawn": "not drawn",
    "off_contig": "off contig",
    "too_much_n": "too much N",
    "too_short": "too short",
    "unlabelled": "its label is unknown in every track",
    "unknown_chromosome": "unknown chromosome",
    # What to beware of.
    "leak_equal": "leakage: {num:,} of {num_examples:,} {of} sequences also stand in {in}",
    "leak_overlap": "leakage: {num:,} of {num_examples:,} {of} examples overlap one of {in}",
    "leak_similar": "leakage: {num:,} of {num_examples:,} {of} sequences share more than {max_similarity:.0%} of their "
    "{kmer_bp}-mers with one of {in}",
    "leak_relative": "leakage: {num:,} of {num_examples:,} {of} sequences have a relative in {in} (80 % identity over "
    "half the window); metrics are given without them, too",
    "leak_kmers": "leakage: {share:.0%} of the {label} examples of {of} share a {kmer_bp}-mer with {in}",
    "repeats": "repeats: {num:,} examples of {of} equal an earlier one of {of}",
    "conflicts": "conflict: {num:,} sequences of {of} stand there with both labels",
    "near_positives": "conflict: {num:,} negatives share half their place, or more than half their 16-mers, with a "
    "positive: are they unbound?",
    "near_positives_dropped": "conflict: {num:,} negatives dropped: they share half their place, or more than half "
    "their 16-mers, with a positive (data.drop_near_positives = false keeps them)",
    "conflicts_dropped": "{num:,} records dropped: the same sequence stands there with both labels",
    "few_made": _tell_few_made,
    "few_to_measure": _tell_few_to_measure,
    "labels": "{of} {positive:,} positive, {negative:,} negative, {unknown:,} unknown",
    "gc_differs": "GC of {kind} negatives is {gc:.1%}, of positives {gc_of_positives:.1%}: compare with the "
    "gc_logistic baseline",
    "genome_differs": "{num:,} of {of:,} records of {source} that were compared are not the genome at the place that "
    "their header names: of another build, or of the other strand",
    "n_differs": _tell_n,
    "n_place_differs": _tell_n,
    "cpg_differs": "CpG alone tells positives from {kind} negatives (AUROC {auroc:.2f}; {mean_of_positives:.2f} of "
    "what C and G let expect, and {mean:.2f}): compare with the confound_logistic baseline",
    "repeats_differ": "tandem repeats alone tell positives from {kind} negatives (AUROC {auroc:.2f}; "
    "{mean_of_positives:.2%} of the bases, and {mean:.2%}): compare with the confound_logistic baseline",
    "length_differs": "length alone told positives from {kind} negatives before they were cut to {length_bp:,} bp "
    "(AUROC {auroc:.2f}; mean {mean_of_positives:,.0f} and {mean:,.0f} bp): of longer ones only the middle is left, so "
    "the two may still differ in where their sites lie; choose both alike",
    "masked_differs": _tell_masked,
    "masked_shares": _tell_shares,
    "no_repeats": _tell_no_repeats,
    "many_dropped": "{num:,} records dropped of {records:,} read: see dropped.tsv",
    "some_placed": "the split is random and not by chromosome, since {num_without_place:,} of {num_examples:,} "
    "examples name no place, the first of them {record!r}: give each a header >chrom:start-end, or leave it out",
    "unknown_chroms": _tell_unknown_chroms,
    "zero_summits": "every summit in column 10 of {source} is 0, which is taken as a placeholder: windows stand around "
    "the middles of its peaks",
    "some_summits": "{num:,} of {of:,} lines of {source} have a summit in column 10; windows of the others stand "
    "around the middles of their peaks",
    "unused_summits": "column 10 of {source} could be a summit in {num:,} of {of:,} lines, and holds something else in "
    "most: windows stand around the middles of its peaks",
    "dash_strands": "every line of {source} has - for name, score and strand: the strand is taken as unknown",
    "centres": "{on_summits:,} windows of {source} around summits, {on_middles:,} around middles",
    # What was asked, and how it was trained.
    "planted": _tell_planted,
    "split": _tell_split,
    "training": _tell_training,
    "devices": _tell_devices,
    "processor": _tell_processor,
    "workers": _tell_workers,
    "parity": _tell_parity,
    "command": lambda command: f"This {join_words([_DID[did] for did in command['did']])}:",
    "growth": lambda found: (
        f"A worker is a share of the cores of {found['cpu']}. A model of step time was fitted to "
        f"{found['num_points']} steps measured there, of 1 to {found['most']} workers; on steps left out of the fit it "
        f"is {found['median_left_out_error']:.1%} off (median; {found['worst_left_out_error']:.0%} at worst). The "
        f"network between workers is taken to carry {found['link_bytes_per_second'] * 8 / 1e9:g} Gbit/s. Past the "
        "measured workers the curve is as good as the model."
    ),
}
