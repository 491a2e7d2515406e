"""Explain the sequences of a file, of any length: logo, table, and bigWig where their place is known."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from ebox.errors import InputError
from ebox.progress import Progress
from ebox.sequences.codes import N_CODE, decode
from ebox.sequences.fasta import parse_location
from ebox.settings.reading import ExplanationConfig
from ebox.storage import run_folder
from ebox.storage.notes import Code, note
from ebox.storage.publishing import claim_folder, explain_disk_errors, publish_folder, write_json
from ebox.storage.stamps import EXPLANATION, stamped

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from ebox.evaluation.windows import Windows
    from ebox.explanation.attribution import Attributions
    from ebox.explanation.discovery import Discovered
    from ebox.explanation.hits import Hit
    from ebox.explanation.writing import ExplanationResult
    from ebox.models.files import LoadedModel
    from ebox.sequences import SequenceSet
    from ebox.sequences.places import Interval

TABLE = "contributions.tsv"
MAX_LOGOS = 50
MAX_LOGO_BP = 400
# Windows are cut in blocks of this number of bases.
BLOCK_BASES = 1 << 20


class Hitless(Code):
    """Why no hits were called in the sequences of a file."""

    NOT_EXPLAINED = "run_not_explained"
    OTHER_TRACK = "other_track"
    NO_MOTIFS = "no_motifs"


@dataclass(frozen=True)
class Locus:
    """The explanation of one record: for each base the mean contribution over the windows that cover it."""

    name: str
    sequence: str
    place: Interval | None
    contributions: Float32[np.ndarray, " length"]
    logit: float
    window_start: int


@dataclass(frozen=True)
class _Records:
    """Names and places of the records, for the hits."""

    names: tuple[str, ...]
    places: tuple[Interval | None, ...]


def refuse_beside_fasta(given: Mapping[str, Any]) -> None:
    """Raise InputError for an option that is only for the explanation of a test set."""
    for option, value in given.items():
        if value:
            raise InputError(
                f"{option} has no meaning for the sequences of a file",
                remedy=f"leave {option} out, or give it to `ebox explain RUN` without --fasta: the hits in these "
                "sequences are of the motifs that are found there",
            )


@contextmanager
def claim_store(out: Path) -> Iterator[Path]:
    """Make the store beside a folder `out`, lock it against other processes, and remove it at the end if it is empty.

    Raises:
        InputError: another process explains into the same folder, or the disk can't be written.
    """
    part = out.parent / f".{out.name}.part"
    with explain_disk_errors(out):
        part.mkdir(parents=True, exist_ok=True)
    with claim_folder(part):
        try:
            # The arrays are deleted where they are of other settings; the locked folder around them must stay.
            yield part / "arrays"
        finally:
            with suppress(OSError):
                part.rmdir()


def explain_locus(
    run: Path,
    model: LoadedModel,
    sequences: SequenceSet,
    out: Path,
    store: Path,
    config: ExplanationConfig,
    track: int,
    mesh: Mesh,
    progress: Progress,
) -> ExplanationResult:
    """Explain every sequence of a set.

    A record longer than the network reads is explained in windows that overlap by three quarters, and each base gets
    the mean of the windows that cover it; a shorter record is padded with N on both sides.

    Args:
        run: The run folder, for the motifs that were discovered.
        model: Its network.
        sequences: The records, with their file.
        out: The folder to publish.
        store: Contributions are streamed to this folder; it is removed at the end.
        config: The settings of the explanation.
        track: The column of the logits.
        mesh: The devices.
        progress: Called with a phrase, the number done, and the number in all.
    """
    from ebox.evaluation.windows import plan_windows
    from ebox.explanation.attribution import attribute
    from ebox.explanation.writing import ExplanationResult, describe_attribution

    known = np.add.reduceat(sequences.codes < N_CODE, sequences.offsets[:-1])
    if not known.all():
        row = int(np.argmin(known))
        raise InputError(
            "holds nothing but N, so there is nothing to explain",
            file=sequences.source,
            line=int(sequences.lines[row]),
            record=sequences.names[row][:80],
            remedy="leave it out",
        )
    motifs, hits_reason = _read_known(run, model.tracks[track])
    windows = plan_windows(sequences.lengths, model.length_bp)
    codes = _cut_all(sequences, windows, model.length_bp)
    found = attribute(model.network, codes, config, track, store=store, mesh=mesh, progress=progress)
    loci = _merge(sequences, windows, found)
    hits = _call_known(motifs, loci, config)
    counts = np.bincount(np.array([hit.example for hit in hits], np.int64), minlength=len(loci))
    lengths = np.asarray(sequences.lengths)
    facts = stamped(
        EXPLANATION,
        {
            "kind": "sequences",
            "track": model.tracks[track],
            "config": config.model_dump(mode="json"),
            "sequences": {
                "file": Path(sequences.source).name,
                "num": len(loci),
                "length_bp": model.length_bp,
                "num_padded": int((lengths < model.length_bp).sum()),
                "num_windowed": int((lengths > model.length_bp).sum()),
                "num_windows": len(windows.owner),
                "num_with_n": int(sum("N" in locus.sequence for locus in loci)),
            },
            "attribution": describe_attribution(found, config),
            "motifs": [],
            "hits_reason": hits_reason,
            "loci": [_describe(locus, count) for locus, count in zip(loci, counts.tolist(), strict=True)],
        },
    )
    with publish_folder(out, overwrite=True, mark=run_folder.EXPLANATION_FACTS) as place:
        facts["files"] = _write_files(place, loci, hits)
        write_json(place / run_folder.EXPLANATION_FACTS, facts)
    shutil.rmtree(store, ignore_errors=True)
    return ExplanationResult(out, facts)


def _cut_all(sequences: SequenceSet, windows: Windows, length_bp: int) -> UInt8[np.ndarray, "window length"]:
    """All windows, a byte for each base; cut in blocks, since the indices of a block take many times this memory."""
    from ebox.evaluation.windows import cut_windows

    codes = np.empty((len(windows.owner), length_bp), np.uint8)
    size = max(1, BLOCK_BASES // length_bp)
    for first in range(0, len(codes), size):
        block = slice(first, first + size)
        codes[block] = cut_windows(sequences, windows.owner[block], windows.start[block], length_bp)
    return codes


def _merge(sequences: SequenceSet, windows: Windows, found: Attributions) -> list[Locus]:
    """Combine the windows of each record."""
    loci = []
    bounds = np.searchsorted(windows.owner, np.arange(len(sequences) + 1))
    length_bp = found.codes.shape[1]
    for row, (first, last) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        record = sequences.record(row)
        sums, counts = np.zeros(len(record)), np.zeros(len(record))
        pieces = found.contributions(slice(first, last))
        for start, piece in zip(windows.start[first:last].tolist(), pieces, strict=True):
            begin, end = max(start, 0), min(start + length_bp, len(record))
            sums[begin:end] += piece[begin - start : end - start]
            counts[begin:end] += 1
        best = first + int(np.argmax(found.logit[first:last]))
        loci.append(
            Locus(
                name=sequences.names[row],
                sequence=decode(record),
                place=parse_location(sequences.names[row], len(record)),
                contributions=(sums / np.maximum(counts, 1)).astype(np.float32),
                logit=float(found.logit[best]),
                window_start=int(windows.start[best]),
            )
        )
    return loci


def _read_known(run: Path, track: str) -> tuple[list[Discovered], dict[str, Any] | None]:
    """The motifs that `ebox explain RUN` discovered for a track, or why there are none."""
    from ebox.explanation.writing import read_discovered
    from ebox.storage.run_folder import read_explanation

    if not (run / run_folder.EXPLANATION / run_folder.EXPLANATION_FACTS).exists():
        return [], note(Hitless.NOT_EXPLAINED)
    facts = read_explanation(run)
    if facts["track"] != track:
        return [], note(Hitless.OTHER_TRACK, {"track": track, "explained": facts["track"]})
    motifs = read_discovered(facts)
    return motifs, None if motifs else note(Hitless.NO_MOTIFS)


def _call_known(motifs: Sequence[Discovered], loci: Sequence[Locus], config: ExplanationConfig) -> list[Hit]:
    """Hits of the discovered motifs, sorted by record and place."""
    from ebox.explanation.hits import call_hits
    from ebox.sequences import encode

    by_length: dict[int, list[int]] = {}
    for row, locus in enumerate(loci):
        by_length.setdefault(len(locus.sequence), []).append(row)
    hits = []
    for rows in by_length.values():
        codes = np.stack([encode(loci[row].sequence) for row in rows])
        contributions = np.stack([loci[row].contributions for row in rows])
        found = call_hits(motifs, codes, contributions, config.hit_p_value)
        hits += [replace(hit, example=rows[hit.example]) for hit in found]
    return sorted(hits, key=lambda hit: (hit.example, hit.start, hit.end, hit.motif))


def _describe(locus: Locus, num_hits: int) -> dict[str, Any]:
    return {
        "name": locus.name,
        "length_bp": len(locus.sequence),
        **{key: None if locus.place is None else getattr(locus.place, key) for key in ("chrom", "start")},
        "logit": round(locus.logit, 5),
        "window_start": locus.window_start,
        "num_hits": num_hits,
    }


def _write_files(folder: Path, loci: Sequence[Locus], hits: Sequence[Hit]) -> dict[str, Any]:
    from ebox.drawing.logos import contribution_heights
    from ebox.explanation.writing import format_hits, name_place, write_logo
    from ebox.sequences.bigwig import check_bigwig, write_bigwig

    records = _Records(tuple(locus.name for locus in loci), tuple(locus.place for locus in loci))
    files: dict[str, Any] = {
        "table": TABLE,
        "contributions": run_folder.CONTRIBUTIONS,
        "hits": run_folder.HITS,
        "logos": [],
        "bigwig": None,
    }
    _write_table(folder / TABLE, loci)
    offsets = np.cumsum([0, *(len(locus.sequence) for locus in loci)])
    flat = np.concatenate([locus.contributions for locus in loci])
    np.savez(
        folder / run_folder.CONTRIBUTIONS, names=np.array(records.names, np.str_), offsets=offsets, contributions=flat
    )
    (folder / run_folder.HITS).write_text(format_hits(hits, records), encoding="utf-8")
    for number, locus in enumerate(loci[:MAX_LOGOS], start=1):
        start, stop = _choose_stretch(locus)
        heights = contribution_heights(locus.sequence[start:stop], locus.contributions[start:stop])
        first = start + 1 if locus.place is None or locus.place.strand == "-" else locus.place.start + start + 1
        stem = f"{number}_{name_place(locus.name, number)}"
        shown = "" if stop - start == len(locus.sequence) else f", bases {start + 1:,} to {stop:,} of the record"
        files["logos"] += write_logo(folder, stem, heights, locus.name + shown, "logit", first)
    if any(place is not None for place in records.places):
        check_bigwig()
        write_bigwig(folder / run_folder.BIGWIG, records.places, [locus.contributions for locus in loci])
        files["bigwig"] = run_folder.BIGWIG
    return files


def _choose_stretch(locus: Locus) -> tuple[int, int]:
    """The whole of a short record; of a long record the stretch with the greatest sum of |contribution|."""
    length = len(locus.sequence)
    if length <= MAX_LOGO_BP:
        return 0, length
    sums = np.concatenate([[0.0], np.abs(locus.contributions.astype(np.float64)).cumsum()])
    start = int(np.argmax(sums[MAX_LOGO_BP:] - sums[:-MAX_LOGO_BP]))
    return start, start + MAX_LOGO_BP


def _write_table(path: Path, loci: Sequence[Locus]) -> None:
    """One row for each base: record, 0-based position, base, contribution, and the place on the genome if known."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write("record\tposition\tbase\tcontribution\tchrom\tgenome_position\n")
        for locus in loci:
            name = " ".join(locus.name.split())
            for position, (base, value) in enumerate(zip(locus.sequence, locus.contributions.tolist(), strict=True)):
                chrom, there = "", ""
                if locus.place is not None:
                    chrom = locus.place.chrom
                    turned = locus.place.strand == "-"
                    there = str(locus.place.end - 1 - position if turned else locus.place.start + position)
                stream.write(f"{name}\t{position}\t{base}\t{value:.6g}\t{chrom}\t{there}\n")
