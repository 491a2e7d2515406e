"""Run the main job on the real TAL1 loci that ship with ebox, or on simulated sequences whose truth is known."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
from ebox.progress import OnEntry, OnStage, OnText, PathLike, Progress, quiet
from ebox.storage.run_folder import SIMULATION, read_request
from ebox.verbs.run import RunResult, run
from ebox.verbs.run import describe as describe_run
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.datasets.sources import DatasetSources
    from ebox.explanation.filters import FilterMotif, Resemblance
    from ebox.sequences import SimulationConfig


VERB = Verb("demo")

__all__ = ["VERB", "choose_finds", "demo", "demo_simulation", "describe"]

# The folder of the simulated sequences in that of a demo.
SIMULATED = "simulation"
# How many of the motifs found are shown.
NUM_FINDS = 4


def demo(
    out: PathLike = "runs/demo",
    *,
    simulated: bool = False,
    overwrite: bool = True,
    on_stage: OnStage = quiet,
    on_entry: OnEntry = quiet,
    on_text: OnText = quiet,
    progress: Progress = quiet,
    command: Sequence[str] | None = None,
) -> RunResult:
    """Run the main job on 2,000 real loci that TAL1 binds and 4,000 that it does not, and show the motif found.

    The loci come with ebox (GEO GSE25000, hg19), and chromosomes 1, 8 and 9 test the network. It takes one to two
    minutes on two cores.

    Args:
        out: Folder to write.
        simulated: Take simulated E-box and GATA composites, whose truth and best possible result are known.
        overwrite: Replace an earlier demo.
        on_stage: Called with the name of each stage as it begins.
        on_entry: Called with every entry of the training metrics and the number of steps in all.
        on_text: Called with what is said of the dataset: counts, what was dropped and why, warnings.
        progress: Called with a phrase, the number done, and the number in all.
        command: The command line to keep; none: that of this process, where it is one of ebox.

    Raises:
        InputError: the folder holds files that no demo made.
    """
    from ebox.datasets.demo_loci import open_demo_loci
    from ebox.settings.reading import make_config
    from ebox.storage.publishing import check_absent, claim_folder

    folder = Path(out)
    check_absent(folder, overwrite=overwrite)
    _check_demo_folder(folder)
    place = folder / SIMULATED
    with claim_folder(folder):
        shutil.rmtree(place, ignore_errors=True)
        if simulated:
            on_stage("simulate")
            _simulate(place)
    with nullcontext(_name_simulated(place)) if simulated else open_demo_loci() as sources:
        return run(
            folder,
            sources,
            make_config(SIMULATED_SETTINGS if simulated else REAL_SETTINGS),
            simulation=place / "simulation.json" if simulated else None,
            overwrite=overwrite,
            on_stage=on_stage,
            on_entry=on_entry,
            on_text=on_text,
            progress=progress,
            command=command,
        )


def _simulate(place: Path) -> None:
    from ebox.sequences.simulation import draw_simulation, write_simulation

    write_simulation(draw_simulation(demo_simulation()), place, overwrite=True)


def _name_simulated(place: Path) -> DatasetSources:
    from ebox.datasets.sources import DatasetSources

    return DatasetSources(positives=place / "positives.fa", negatives=(place / "negatives.fa",))


def _check_demo_folder(folder: Path) -> None:
    """Raise InputError where the folder is no earlier demo, since a demo replaces the folder without asking."""
    if not folder.is_dir() or _is_demo(folder):
        return
    strange = sorted(path.name for path in folder.iterdir() if path.name[0] != "." and path.name != SIMULATED)
    if strange:
        raise InputError(f"holds {strange[0]}, which no demo made", file=folder, remedy="choose another --out")


def _is_demo(folder: Path) -> bool:
    """Whether the run in a folder was asked for by a demo: its positives are those of one."""
    from ebox.datasets.demo_loci import BOUND

    positives = Path(read_request(folder).get("files", {}).get("positives", ["."])[0])
    return positives.name == BOUND or positives.parent.name == SIMULATED


# One layer of filters as wide as the composite of GATA and E-box, so that one of them can show it whole; on validation
# it ranks as well as the default network of 64 filters (AUROC 0.950 both).
REAL_SETTINGS: Mapping[str, Any] = {
    "data": {"track": "TAL1"},
    "model": {"architecture": "motif", "num_filters": 64, "filter_width_bp": 19},
    "train": {"epochs": 16},
}
SIMULATED_SETTINGS: Mapping[str, Any] = {
    "data": {"track": "TAL1", "negatives": ["given", "shuffled"], "negative_ratio": 0.5},
    "model": {"num_filters": 32, "filter_width_bp": 11, "dense_units": [32]},
    "train": {"epochs": 14, "filter_dropout": 0.0, "shift_bp": 4},
}


def demo_simulation() -> SimulationConfig:
    """An E-box and a GATA site 5 to 10 bp apart, somewhere in 200 bp, against background of the same composition."""
    from ebox.sequences import SimulationConfig

    return SimulationConfig(
        motifs=("MA0091.2", "MA0035.5"),
        spacing_bp=(5, 10),
        length_bp=200,
        gc=0.45,
        num_positives=4000,
        num_negatives=4000,
    )


# What a biologist wants to know before the numbers, by whether the sequences were simulated.
ABOUT: Mapping[bool, tuple[str, ...]] = {
    False: (
        "Positives: 2,000 loci of 200 bp that TAL1 binds in Jurkat and erythroid cells (ChIP-seq, GEO GSE25000, hg19).",
        "Negatives: 4,000 unbound ones with the same GC content, on the same chromosomes.",
        "Chromosomes 1, 8 and 9 are the test: the network never saw them.",
    ),
    True: (
        "Positives: 4,000 simulated sequences with an E-box and a GATA site 5 to 10 bp apart.",
        "Negatives: 4,000 without, and 2,000 shuffled positives.",
        "The report says how good any method can be on them.",
    ),
}
AUROC = (
    "AUROC: how often a positive scores above a negative; 0.5 is chance, 1 is perfect. The network against the best",
    "hit of a known motif (best_pwm), GC content alone, and counts of words of 6 bases (kmer_logistic):",
)


def describe(result: RunResult) -> str:
    """The data, the motifs found, the test metrics beside the baselines, and the path of the report."""
    from ebox.explanation.filters import read_filters

    about = ABOUT[(result.folder / SIMULATION).is_file()]
    motifs = _describe_motifs(choose_finds(read_filters(result.folder)))
    return "\n".join(["", *about, "", *motifs, "", *AUROC, describe_run(result)])


def choose_finds(filters: Sequence[FilterMotif]) -> list[FilterMotif]:
    """For each known motif the filter like it that favours bound loci most, those that do so most first."""
    finds: dict[str, FilterMotif] = {}
    for motif in filters:
        if motif.resembles is not None:
            finds.setdefault(motif.resembles.id, motif)
    return list(finds.values())[:NUM_FINDS]


def _describe_motifs(finds: Sequence[FilterMotif]) -> list[str]:
    if not finds:
        return ["No filter of the network is like a motif that ebox carries."]
    lines = [
        "What the network looks for, how often in validation sequences, and below it the known motif most like it:"
    ]
    return lines + [line for motif in finds if motif.resembles for line in _describe_motif(motif, motif.resembles)]


def _describe_motif(motif: FilterMotif, like: Resemblance) -> list[str]:
    """A filter, and below it, base below base, the known motif that is most like it."""
    from ebox.sequences.motifs import load_jaspar

    matrix = load_jaspar(like.id).probabilities
    turned = like.strand == "-"
    known = replace(motif, probabilities=matrix[::-1, ::-1] if turned else matrix).consensus
    strand = ", other strand" if turned else ""
    found = f"{' ' * max(0, -like.offset_bp)}{motif.consensus}"
    known = f"{' ' * max(0, like.offset_bp)}{known}"
    width = max(len(found), len(known))
    return [
        f"  filter {motif.index:<3} {found:<{width}}  in {100 * motif.share_positive:.0f} % of positives, in "
        f"{100 * motif.share_negative:.0f} % of negatives",
        f"  known      {known:<{width}}  {like.name} ({like.id} of JASPAR{strand}), correlation {like.correlation:.2f}",
    ]
