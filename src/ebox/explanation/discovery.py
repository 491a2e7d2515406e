"""Motif discovery by TF-MoDISco on contributions, and the comparison with known motifs, in a separate process.

TF-MoDISco (Shrikumar 2018, as modisco-lite) cuts out stretches of high contribution, groups similar ones and averages
each group. It forks, which a process that runs JAX must not do, and Numba's threads slow XLA's; so it runs as
`python -m ebox.explanation.discovery FOLDER`, which loads neither JAX nor the model.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from ebox.errors import InputError
from ebox.explanation.matching import Match, match_motifs
from ebox.explanation.merging import TRIM_SHARE, Pattern, merge_alike
from ebox.progress import Progress, quiet
from ebox.sequences.codes import one_hot
from ebox.sequences.matrices import Motif
from ebox.sequences.motif_files import read_meme, write_meme
from ebox.settings.reading import ExplanationConfig
from ebox.storage.publishing import read_json, write_json

# A motif is cut to the columns from the first to the last that contributes (TRIM_SHARE) and has at least LEAST_BITS
# more than the same number of random sites would have. With fewer than MIN_COLUMNS such columns it is no motif: TOMTOM
# finds flat matrices very similar to the flat flanks of known ones.
LEAST_BITS = 0.25
MIN_COLUMNS = 4
# Discovery on more sequences finds nothing new, and takes hours.
MAX_SEQUENCES = 10_000
# With fewer stretches TF-MoDISco finds nothing.
MIN_SEQLETS = 20
PSEUDOCOUNT = 0.5
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Discovered:
    """A motif that the network uses.

    `probabilities` are of the sites, `contributions` the mean contribution of each base at each column; both are cut to
    the same columns, and the logo, the matches, the hits and the experiments are all made from them. `sign` is 1 if the
    motif raises the logit, -1 if it lowers it. A site is (example, start, end, strand), as wide as the motif.
    """

    name: str
    sign: int
    probabilities: Float[np.ndarray, "width 4"]
    contributions: Float[np.ndarray, "width 4"]
    sites: tuple[tuple[int, int, int, str], ...]
    matches: tuple[Match, ...]

    @property
    def best(self) -> Match | None:
        """The best match, if it is significant."""
        return self.matches[0] if self.matches and self.matches[0].is_find else None

    @property
    def motif(self) -> Motif:
        """The matrix as a motif, named after its best match."""
        alt_name = "" if self.best is None else self.best.name.replace(" ", "_")
        return Motif(self.name, self.probabilities, "ebox explain", alt_name, len(self.sites))


@dataclass(frozen=True)
class DiscoveryResult:
    """The motifs found, those with most sites first, and the number of sequences searched.

    `reason` is the error that stopped TF-MoDISco, or None. `filter_matches` are the matches of the given filters.
    """

    motifs: tuple[Discovered, ...]
    num_searched: int
    reason: str | None
    filter_matches: tuple[tuple[Match, ...], ...] = ()


def discover(
    codes: UInt8[np.ndarray, "example length"],
    hypothetical: Float32[np.ndarray, "example length 4"],
    targets: Sequence[Motif],
    config: ExplanationConfig,
    *,
    filters: Sequence[Float[np.ndarray, "_ 4"]] = (),
    progress: Progress = quiet,
) -> DiscoveryResult:
    """Find the motifs in contributions; none where nothing recurs.

    At most 10,000 sequences are searched, drawn by the seed; the sites have the row numbers of the given sequences.

    Args:
        codes: Base codes.
        hypothetical: What each base would contribute at each place.
        targets: Known motifs to compare with.
        config: Limits of the discovery, and the seed.
        filters: Matrices of filters, which are matched with the targets too.
        progress: Called with a phrase, 0 or 1, and 1.

    Raises:
        InputError: the other process failed.
    """
    rows = draw_rows(len(codes), config.seed)
    with tempfile.TemporaryDirectory(prefix="ebox-discovery-") as temporary:
        folder = Path(temporary)
        np.save(folder / "codes.npy", codes[rows])
        np.save(folder / "hypothetical.npy", hypothetical[rows])
        write_meme(folder / "targets.meme", targets)
        sources = [motif.source for motif in targets]
        settings = {"max_seqlets": config.max_seqlets, "leiden_runs": config.leiden_runs, "sources": sources}
        write_json(folder / "settings.json", {**settings, "filters": [matrix.tolist() for matrix in filters]})
        _run(folder, progress)
        found = read_json(folder / "motifs.json")
    motifs = tuple(_read(entry, rows) for entry in found["motifs"])
    matches = tuple(tuple(Match(**match) for match in row) for row in found["filter_matches"])
    return DiscoveryResult(motifs, len(rows), found["reason"], matches)


def draw_rows(number: int, seed: int) -> Int64[np.ndarray, " drawn"]:
    """The rows to search for motifs, in order: all, or MAX_SEQUENCES drawn by the seed."""
    if number <= MAX_SEQUENCES:
        return np.arange(number)
    return np.sort(np.random.default_rng(seed).choice(number, MAX_SEQUENCES, replace=False))


def _run(folder: Path, progress: Progress) -> None:
    """Run the other process, and raise InputError with its last line if it fails."""
    command = [sys.executable, "-m", "ebox.explanation.discovery", str(folder)]
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                progress("finding motifs", 0, 1)
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            raise InputError(
                f"motif discovery ended with code {process.returncode}: {lines[-1] if lines else 'no message'}",
                remedy="fewer sequences (explanation.max_sequences) need less memory; "
                "`--set explanation.discover=false` leaves discovery out",
            )
        progress("finding motifs", 1, 1)


def main(folder: Path) -> None:
    """Do the work of the other process: read its folder, write motifs.json there."""
    settings = read_json(folder / "settings.json")
    codes, hypothetical = np.load(folder / "codes.npy"), np.load(folder / "hypothetical.npy")
    both_signs, reason = _find_patterns(codes, hypothetical, settings)
    found_patterns = [
        _read_pattern(entry, sign) for sign, of_sign in zip((1, -1), both_signs, strict=True) for entry in of_sign
    ]
    described = (_describe(entry, codes.shape[1]) for entry in merge_alike(found_patterns, codes, hypothetical))
    patterns = [pattern for pattern in described if pattern is not None]
    patterns.sort(key=lambda pattern: (-pattern["sign"], -len(pattern["sites"])))
    known = read_meme(folder / "targets.meme")
    targets = [
        Motif(motif.name, motif.probabilities, source, motif.alt_name)
        for motif, source in zip(known, settings["sources"], strict=True)
    ]
    matched, filter_matches = (
        [
            [asdict(match) for match in matches]
            for matches in match_motifs([np.asarray(entry) for entry in kind], targets)
        ]
        for kind in ([pattern["probabilities"] for pattern in patterns], settings["filters"])
    )
    for pattern, matches in zip(patterns, matched, strict=True):
        pattern["matches"] = matches
    named = [{"name": f"motif_{number}", **entry} for number, entry in enumerate(patterns, start=1)]
    found = {"motifs": named, "reason": reason, "filter_matches": filter_matches}
    write_json(folder / "motifs.json", found)


def _find_patterns(
    codes: np.ndarray, hypothetical: np.ndarray, settings: dict[str, Any]
) -> tuple[tuple[Sequence[Any], Sequence[Any]], str | None]:
    """The patterns that raise and that lower the logit, and the error of TF-MoDISco if it stopped early."""
    from modiscolite.tfmodisco import TFMoDISco

    try:
        found = TFMoDISco(
            one_hot(codes),
            np.ascontiguousarray(hypothetical, np.float32),
            max_seqlets_per_metacluster=settings["max_seqlets"],
            n_leiden_runs=settings["leiden_runs"],
            min_metacluster_size=MIN_SEQLETS,
        )
    except (ValueError, IndexError, ZeroDivisionError) as error:
        # It raises these if no stretch is strong enough: it then divides by 0 or takes the maximum of nothing. The
        # cause may also be another fault, so the message is kept.
        return ((), ()), f"{type(error).__name__}: {error}"
    patterns_for, patterns_against = (() if patterns is None else patterns for patterns in found)
    return (patterns_for, patterns_against), None


def _read_pattern(pattern: Any, sign: int) -> Pattern:
    """A pattern of TF-MoDISco, with all its columns."""
    sites = tuple(
        (int(seqlet.example_idx), int(seqlet.start), int(seqlet.end), "-" if seqlet.is_revcomp else "+")
        for seqlet in pattern.seqlets
    )
    shares, contributions = (np.asarray(values, np.float64) for values in (pattern.sequence, pattern.contrib_scores))
    return Pattern(sign, shares, contributions, sites)


def _describe(pattern: Pattern, length: int) -> dict[str, Any] | None:
    """A pattern as plain values, cut to the columns that contribute; None where there are too few."""
    strength = np.abs(pattern.contributions.sum(axis=1))
    bits = _information(pattern.shares, len(pattern.sites))
    held = np.flatnonzero((strength >= TRIM_SHARE * strength.max()) & (bits >= LEAST_BITS))
    if len(held) < MIN_COLUMNS:
        return None
    start, stop = int(held[0]), int(held[-1]) + 1
    sites = []
    for example, site_start, site_end, strand in pattern.sites:
        first = site_end - stop if strand == "-" else site_start + start
        if first >= 0 and first + stop - start <= length:
            sites.append((example, first, first + stop - start, strand))
    counts = pattern.shares[start:stop] * len(pattern.sites) + PSEUDOCOUNT
    return {
        "sign": pattern.sign,
        "probabilities": (counts / counts.sum(axis=1, keepdims=True)).tolist(),
        "contributions": pattern.contributions[start:stop].tolist(),
        "sites": sorted(sites),
    }


def _information(shares: Float[np.ndarray, "width 4"], num_sites: int) -> Float[np.ndarray, " width"]:
    """Bits of each column, less the expected bits of `num_sites` random bases (Schneider 1986)."""
    known = np.where(shares > 0, shares, 1.0)
    return 2.0 + (known * np.log2(known)).sum(axis=1) - 3.0 / (2.0 * np.log(2.0) * max(num_sites, 1))


def _read(entry: dict[str, Any], rows: Int64[np.ndarray, " drawn"]) -> Discovered:
    return Discovered(
        name=entry["name"],
        sign=entry["sign"],
        probabilities=np.asarray(entry["probabilities"]),
        contributions=np.asarray(entry["contributions"]),
        sites=tuple((int(rows[row]), start, end, strand) for row, start, end, strand in entry["sites"]),
        matches=tuple(Match(**match) for match in entry["matches"]),
    )


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main(Path(sys.argv[1]))
