"""Make sequences with planted motifs, and the best result that any method can reach on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ebox.progress import PathLike
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.sequences import SimulationConfig, SimulationResult

VERB = Verb(
    "simulate",
    options={"motifs": "--motif", "motif_files": "--motifs", "overrides": "--set"},
    needed=("out",),
)


def simulate(config: SimulationConfig, out: PathLike | None = None, *, overwrite: bool = False) -> SimulationResult:
    """Make sequences with planted motifs. Their places and the best possible result are written too.

    Args:
        config: The settings of the simulation.
        out: Folder to write; none: nothing is written.
        overwrite: Replace an earlier result in --out.

    Raises:
        InputError: an unknown motif, a file that can't be read, sites that don't fit, or a folder that exists.
    """
    from ebox.sequences.simulation import draw_simulation, write_simulation

    result = draw_simulation(config)
    if out is None:
        return result
    write_simulation(result, out, overwrite=overwrite)
    return replace(result, folder=Path(out))


def describe(result: SimulationResult) -> str:
    """The best result that any method can reach on the sequences, and their folder."""
    ceiling = result.ceiling
    parts = [
        f"{name} {metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})"
        for name, metric in (("accuracy", ceiling.accuracy), ("AUROC", ceiling.auroc))
    ]
    lines = [f"likelihood-ratio ceiling: {', '.join(parts)}"]
    return "\n".join(lines if result.folder is None else [*lines, f"simulation: {result.folder}"])
