"""Run the main job on simulated sequences, whose truth and best possible result are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
from ebox.progress import OnEntry, OnStage, PathLike, Progress, quiet
from ebox.storage.run_folder import REQUEST
from ebox.verbs.run import RunResult, describe, run
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.sequences import SimulationConfig


VERB = Verb("demo", "Run the main job on simulated sequences.", "demo")

__all__ = ["VERB", "demo", "demo_simulation", "describe"]


def demo(
    out: PathLike = "runs/demo",
    *,
    overwrite: bool = True,
    on_stage: OnStage = quiet,
    on_entry: OnEntry = quiet,
    progress: Progress = quiet,
    command: Sequence[str] | None = None,
) -> RunResult:
    """Run the main job on simulated E-box and GATA composites, whose truth and best possible result are known.

    It takes about a minute on two cores.

    Args:
        out: Folder to write.
        overwrite: Replace an earlier demo.
        on_stage: Called with the name of each stage as it begins.
        on_entry: Called with every entry of the training metrics and the number of steps in all.
        progress: Called with a phrase, the number done, and the number in all.
        command: The command line to keep; none: that of this process, where it is one of ebox.

    Raises:
        InputError: the folder holds files that no demo made.
    """
    from ebox.datasets.sources import DatasetSources
    from ebox.sequences.simulation import draw_simulation, write_simulation
    from ebox.settings.reading import make_config
    from ebox.storage.publishing import check_absent, claim_folder

    folder = Path(out)
    check_absent(folder, overwrite=overwrite)
    _check_demo_folder(folder)
    place = folder / "simulation"
    with claim_folder(folder):
        on_stage("simulate")
        write_simulation(draw_simulation(demo_simulation()), place, overwrite=True)
    sources = DatasetSources(positives=place / "positives.fa", negatives=(place / "negatives.fa",))
    return run(
        folder,
        sources,
        make_config(DEMO_SETTINGS),
        simulation=place / "simulation.json",
        overwrite=overwrite,
        on_stage=on_stage,
        on_entry=on_entry,
        progress=progress,
        command=command,
    )


def _check_demo_folder(folder: Path) -> None:
    """Raise InputError where the folder is no earlier demo, since a demo replaces the folder without asking."""
    if folder.is_dir() and not (folder / REQUEST).is_file():
        strange = sorted(path.name for path in folder.iterdir() if path.name[0] != "." and path.name != "simulation")
        if strange:
            raise InputError(f"holds {strange[0]}, which no demo made", file=folder, remedy="choose another --out")


DEMO_SETTINGS: Mapping[str, Any] = {
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
