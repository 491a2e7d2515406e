"""The options that several verbs of the command line share, and what they make together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

OutOption = Annotated[Path, typer.Option("--out", help="Folder to write.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file (TOML); see `ebox config`.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, as train.epochs=20; repeatable."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what stands in --out.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]
PositivesOption = Annotated[
    Path | None, typer.Option("--positives", metavar="FILE", help="Bound sequences: FASTA, plain or compressed.")
]
NegativesOption = Annotated[
    list[Path] | None,
    typer.Option("--negatives", metavar="FILE", help="Unbound sequences: FASTA; repeatable, each a kind of its own."),
]
PeaksOption = Annotated[
    Path | None, typer.Option("--peaks", metavar="FILE", help="Peaks: BED or narrowPeak; needs --genome.")
]
GenomeOption = Annotated[Path | None, typer.Option("--genome", metavar="FILE", help="Genome: FASTA, plain or bgzip.")]
BlacklistOption = Annotated[
    Path | None,
    typer.Option(
        "--blacklist",
        metavar="FILE",
        help="Regions to leave out: BED.",
    ),
]
TableOption = Annotated[
    Path | None, typer.Option("--table", metavar="FILE", help="CSV or TSV with the columns sequence and label.")
]
TrainTableOption = Annotated[
    Path | None,
    typer.Option("--train", metavar="FILE", help="Table of a given train split; needs --validation and --test."),
]
ValidationTableOption = Annotated[
    Path | None, typer.Option("--validation", metavar="FILE", help="Table of a given validation split.")
]
TestTableOption = Annotated[Path | None, typer.Option("--test", metavar="FILE", help="Table of a given test split.")]
LengthOption = Annotated[
    int | None,
    typer.Option("--length", help="Length of every example in bp (default: that of the sequences; 200 for peaks)."),
]
KindsOption = Annotated[
    str | None,
    typer.Option(
        "--negative-kinds",
        help="given, shuffled, matched, or several with commas (default: those given, else what can be made).",
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option("--split", help="auto (default: chromosome where coordinates are known), random or chromosome."),
]
EpochsOption = Annotated[
    float | None,
    typer.Option(
        "--epochs",
        help="Passes over the training examples (default 12).",
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of data, training and evaluation (default 0).")]
PlatformOption = Annotated[str | None, typer.Option("--platform", help="auto (default), cpu, gpu or tpu.")]
DevicesOption = Annotated[int | None, typer.Option("--devices", help="How many local devices; all when left out.")]
TopologyOption = Annotated[str | None, typer.Option("--topology", help="Machines not here: v5e:4x4, h100:8, cpu:4.")]
ForOption = Annotated[Path | None, typer.Option("--for", help="Dataset folder: what training on it would take.")]
ParityOption = Annotated[
    bool, typer.Option("--parity", help="Train a fixed problem (with --set too) with 1 and N workers, and compare.")
]
ScalingOption = Annotated[
    bool, typer.Option("--scaling", help="With --for: measure steps here, and predict them for up to 256 workers.")
]
LinkOption = Annotated[str, typer.Option("--link", help="With --scaling: the network between workers, as 10gbit.")]
WorkersOption = Annotated[str, typer.Option("--workers", help="With --parity: numbers of workers, as 2,4,8.")]
ProcessesOption = Annotated[
    int | None, typer.Option("--processes", help="Processes to start on this machine, sharing its cores or GPUs.")
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Train on a Ray cluster: auto, its address, or local.",
    ),
]
RayWorkersOption = Annotated[int | None, typer.Option("--workers", help="How many workers on the Ray cluster.")]
ExchangeOption = Annotated[
    str | None,
    typer.Option(
        "--exchange",
        help="How gradients travel: exact (default), half, int8, topk or powersgd.",
    ),
]
RankOption = Annotated[int | None, typer.Option("--rank", help="Rank of what powersgd sends.")]
SyncOption = Annotated[
    str | None,
    typer.Option(
        "--sync",
        help="When workers meet: every-step (default), delayed (a step late), local, or async (Ray).",
    ),
]
LocalStepsOption = Annotated[int | None, typer.Option("--local-steps", help="Steps between two meetings (local).")]
MinWorkersOption = Annotated[
    int | None, typer.Option("--min-workers", help="Go on with fewer workers, down to so many, if one keeps failing.")
]
MotifFilesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--motifs",
        metavar="FILE",
        help="MEME or JASPAR file for the best-PWM baseline, beside the motifs of TAL1 "
        "(MA0091.2, MA0140.3); repeatable. "
        "Other motifs alone: --set evaluation.motifs=['MA0139.2'].",
    ),
]


def read_sources(
    positives: Path | None,
    negatives: list[Path] | None,
    peaks: Path | None,
    genome: Path | None,
    blacklist: Path | None,
    table: Path | None,
    train: Path | None,
    validation: Path | None,
    test: Path | None,
) -> Any:
    """The files of a dataset, as they were given."""
    from ebox.datasets.sources import DatasetSources

    given = {"train": train, "validation": validation, "test": test}
    return DatasetSources(
        positives=positives,
        negatives=tuple(negatives or ()),
        peaks=peaks,
        genome=genome,
        blacklist=blacklist,
        table=table,
        splits={name: path for name, path in given.items() if path is not None},
    )


def read_settings(
    file: Path | None,
    overrides: list[str] | None,
    length: int | None,
    kinds: str | None,
    split: str | None,
    epochs: float | None,
    seed: int | None,
    platform: str | None,
    devices: int | None,
    workers: dict[str, Any] | None = None,
) -> Any:
    """Settings from the file, then --set, then the flags."""
    from ebox.settings.reading import read_config

    flags: dict[str, Any] = {
        "data.length_bp": length,
        "data.negatives": None if kinds is None else [kind.strip() for kind in kinds.split(",")],
        "data.split": split,
        "train.epochs": epochs,
        "data.seed": seed,
        "train.seed": seed,
        "evaluation.seed": seed,
        "parallel.platform": platform,
        "parallel.devices": devices,
        **({} if workers is None else workers),
    }
    return read_config(file, overrides or (), {key: value for key, value in flags.items() if value is not None})


def read_workers(
    processes: int | None,
    cluster: str | None,
    workers: int | None,
    exchange: str | None,
    rank: int | None,
    sync: str | None,
    local_steps: int | None,
    min_workers: int | None,
) -> dict[str, Any]:
    """The flags of training with several workers, by their settings."""
    return {
        "parallel.processes": processes,
        "parallel.cluster": cluster,
        "parallel.workers": workers,
        "parallel.exchange": exchange,
        "parallel.rank": rank,
        "parallel.sync": sync,
        "parallel.local_steps": local_steps,
        "parallel.min_workers": min_workers,
    }
