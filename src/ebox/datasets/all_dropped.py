"""What to do where nothing is left of the positives or of the negatives that were given."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ebox.datasets.build_state import BuildState
from ebox.datasets.examples import Dropped
from ebox.datasets.reading import find_label

REMEDIES = {
    Dropped.AVOIDED: "they lie on places of --avoid: give others, or leave --avoid out",
    Dropped.BLACKLISTED: "they lie on the blacklist: give others, or leave --blacklist out",
    Dropped.CONFLICTING: "the same sequences are given as positives and as negatives: is a file given twice?",
    Dropped.IN_OTHER_SPLIT: "the same sequences stand in another split: is a file given twice?",
    Dropped.NEAR_POSITIVE: "they lie on positives or resemble them: give others, or keep these with "
    "--set data.drop_near_positives=false",
    Dropped.OFF_CONTIG: "their windows reach past the ends of chromosomes: is the genome of another build?",
    Dropped.TOO_MUCH_N: "they have more N than data.max_n_fraction, or nothing else: give others, or raise it",
    Dropped.UNLABELLED: "they have no label in any of the columns of labels: fill one in",
    Dropped.UNKNOWN_CHROMOSOME: "the genome lacks their chromosomes: use the genome that the places are from",
}


def find_remedy(build: BuildState, label: int) -> str | None:
    """What to do where all records of the files with a label were dropped.

    Args:
        build: The build, after cleaning.
        label: 1 for positives, 0 for negatives.

    Returns:
        The remedy for the most frequent reason; None where no file holds such records alone, or its reason has none.
    """
    files = {Path(source.path).name for source in build.log.sources if find_label(source.role) == label}
    reasons = Counter(reason for source, _, _, reason, _ in build.log.rows if source in files)
    return REMEDIES.get(Dropped(reasons.most_common(1)[0][0])) if reasons else None
